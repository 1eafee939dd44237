"""tritonclient's streams: start_stream, async_stream_infer, stop_stream, and the asyncio client's stream_infer."""

import json
import queue
import unittest

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from samples import GRPC, simple_pair


def make_input(name, array, datatype):
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    return tensor


def simple_inputs(start):
    pair = simple_pair(1, start)
    return pair, [make_input(f"INPUT{i}", array, "INT32") for i, array in enumerate(pair)]


def text_inputs(text, stream=True, **sampling):
    """What Triton's clients of its language model backends send."""
    sampling = {"temperature": 0, "max_tokens": "24", **sampling}
    return [
        make_input("text_input", np.array([text.encode()], dtype=np.object_), "BYTES"),
        make_input("stream", np.array([stream]), "BOOL"),
        make_input("sampling_parameters", np.array([json.dumps(sampling).encode()], dtype=np.object_), "BYTES"),
    ]


def final(result):
    return result.get_response().parameters["triton_final_response"].bool_param


def text_of(result):
    return result.as_numpy("text_output")[0].decode()


class Stream(unittest.TestCase):
    def setUp(self):
        self.client = triton.InferenceServerClient(url=GRPC)
        self.addCleanup(self.client.close)
        self.told = queue.Queue()

    def start(self, **options):
        self.client.start_stream(callback=lambda result, error: self.told.put((result, error)), **options)

    def next(self):
        result, error = self.told.get(timeout=240)
        if error is not None:
            raise error
        return result

    def text(self, request_id):
        """All pieces of one request, nothing else being under way."""
        pieces = []
        while True:
            result = self.next()
            self.assertEqual(result.get_response().id, request_id)
            pieces.append(text_of(result))
            if final(result):
                return pieces

    def test_ordinary_models_answer_in_order_and_each_response_is_the_last(self):
        self.start()
        pairs = []
        for i in range(100):
            pair, inputs = simple_inputs(i)
            pairs.append(pair)
            self.client.async_stream_infer("simple", inputs, request_id=str(i))
        for i, pair in enumerate(pairs):
            result = self.next()
            self.assertEqual(result.get_response().id, str(i))
            self.assertTrue(final(result))
            np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), pair[0] + pair[1])
        self.client.stop_stream()

    def test_half_closing_waits_for_what_is_outstanding(self):
        self.start()
        self.client.async_stream_infer("stories", text_inputs("Once upon a time"), request_id="s")
        for i in range(20):
            self.client.async_stream_infer("simple", simple_inputs(i)[1], request_id=str(i))
        self.client.stop_stream()
        results = []
        while not self.told.empty():
            results.append(self.next())
        self.assertEqual(sum(final(result) for result in results), 21)

    def test_text_comes_in_pieces_that_make_up_the_whole(self):
        self.start()
        self.client.async_stream_infer("stories", text_inputs("Once upon a time"), request_id="a", enable_empty_final_response=True)
        pieces = self.text("a")
        self.assertGreater(len(pieces), 5)
        inputs = text_inputs("Once upon a time", stream=False)
        inputs.append(make_input("exclude_input_in_output", np.array([True]), "BOOL"))
        self.client.async_stream_infer("stories", inputs, request_id="b")
        self.assertEqual(self.text("b"), ["".join(pieces)])
        self.client.stop_stream()

    def test_requests_for_several_models_interleave(self):
        self.start()
        for name in ("cat", "dog", "fox"):
            self.client.async_stream_infer("stories", text_inputs(f"Once there was a {name}"), request_id=name)
        for i in range(10):
            self.client.async_stream_infer("simple", simple_inputs(i)[1], request_id=f"{i}")
        texts, ordinary, open_ids = {}, [], {"cat", "dog", "fox"}
        while open_ids or len(ordinary) < 10:
            result = self.next()
            request_id = result.get_response().id
            if request_id in ("cat", "dog", "fox"):
                self.assertIn(request_id, open_ids)
                texts[request_id] = texts.get(request_id, "") + text_of(result)
                if final(result):
                    open_ids.remove(request_id)
            else:
                ordinary.append(request_id)
        self.assertEqual(ordinary, [str(i) for i in range(10)])
        for name, text in texts.items():
            self.client.async_stream_infer("stories", text_inputs(f"Once there was a {name}"), request_id=name)
            self.assertEqual("".join(self.text(name)), text)
        self.client.stop_stream()

    def test_an_error_goes_to_the_callback_and_the_stream_goes_on(self):
        self.start()
        self.client.async_stream_infer("nothing", simple_inputs(0)[1], request_id="1")
        with self.assertRaises(InferenceServerException) as caught:
            self.next()
        self.assertIn("Request for unknown model: 'nothing' is not found", caught.exception.message())
        self.client.async_stream_infer("stories", text_inputs("a", temperature=-1), request_id="2")
        with self.assertRaises(InferenceServerException) as caught:
            self.next()
        self.assertIn("temperature", caught.exception.message())
        self.client.async_stream_infer("simple", simple_inputs(0)[1], request_id="3")
        self.assertEqual(self.next().get_response().id, "3")
        self.client.stop_stream()

    def test_with_triton_grpc_error_the_first_error_ends_the_stream(self):
        self.start(headers={"triton_grpc_error": "true"})
        self.client.async_stream_infer("nothing", simple_inputs(0)[1], request_id="1")
        with self.assertRaises(InferenceServerException) as caught:
            self.next()
        self.assertEqual(caught.exception.status(), "StatusCode.NOT_FOUND")
        self.client.stop_stream()

    def test_cancelling_the_stream_ends_its_requests(self):
        self.start()
        for i in range(4):
            self.client.async_stream_infer("stories", text_inputs("Once", max_tokens=100, ignore_eos=True), request_id=str(i))
        self.next()
        self.client.stop_stream(cancel_requests=True)
        self.told = queue.Queue()
        self.start()
        self.client.async_stream_infer("simple", simple_inputs(0)[1], request_id="after")
        self.assertEqual(self.next().get_response().id, "after")
        self.client.stop_stream()

    def test_infer_of_a_model_that_generates_text_is_refused_as_triton_does(self):
        with self.assertRaises(InferenceServerException) as caught:
            self.client.infer("stories", text_inputs("Once"))
        self.assertIn("ModelInfer RPC doesn't support models with decoupled transaction policy", caught.exception.message())
        self.assertEqual(caught.exception.status(), "StatusCode.UNIMPLEMENTED")


class Aio(unittest.IsolatedAsyncioTestCase):
    async def test_an_iterator_of_requests_gives_an_iterator_of_responses(self):
        async def requests():
            yield {"model_name": "stories", "inputs": text_inputs("Once upon a time"), "request_id": "s"}
            for i in range(10):
                yield {"model_name": "simple", "inputs": simple_inputs(i)[1], "request_id": str(i)}

        async with triton_aio.InferenceServerClient(url=GRPC) as client:
            ordinary, text = [], ""
            async for result, error in client.stream_infer(requests()):
                self.assertIsNone(error)
                if result.get_response().id == "s":
                    text += text_of(result)
                else:
                    ordinary.append(result.get_response().id)
            self.assertEqual(ordinary, [str(i) for i in range(10)])
            self.assertGreater(len(text), 10)
