"""tritonclient over gRPC: synchronous, with callbacks, asyncio; every datatype; the calls and texts that its examples rely on."""

import queue
import unittest

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from samples import GRPC, SEVEN, TENSORS, check_classes, same, simple_pair


def make_input(name, array, datatype):
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    return tensor


def simple_inputs(rows=1, start=0):
    pair = simple_pair(rows, start)
    return pair, [make_input(f"INPUT{i}", array, "INT32") for i, array in enumerate(pair)]


class Sync(unittest.TestCase):
    def setUp(self):
        self.client = triton.InferenceServerClient(url=GRPC)
        self.addCleanup(self.client.close)

    def check_sum(self, result, pair):
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), pair[0] + pair[1])
        np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), pair[0] - pair[1])

    def test_simple_with_and_without_requested_outputs(self):
        pair, inputs = simple_inputs()
        outputs = [triton.InferRequestedOutput("OUTPUT0"), triton.InferRequestedOutput("OUTPUT1")]
        result = self.client.infer("simple", inputs, outputs=outputs, headers={"test": "1"}, client_timeout=240)
        self.check_sum(result, pair)
        self.check_sum(self.client.infer("simple", inputs, outputs=None), pair)
        one = self.client.infer("simple", inputs, outputs=[triton.InferRequestedOutput("OUTPUT1")], request_id="7")
        self.assertIsNone(one.as_numpy("OUTPUT0"))
        np.testing.assert_array_equal(one.as_numpy("OUTPUT1"), pair[0] - pair[1])
        response = one.get_response(as_json=True)
        self.assertEqual(response["id"], "7")
        self.assertEqual((response["model_name"], response["model_version"]), ("simple", "1"))

    def test_compression(self):
        pair, inputs = simple_inputs(rows=8)
        for algorithm in ("gzip", "deflate", None):
            with self.subTest(algorithm):
                self.check_sum(self.client.infer("simple", inputs, compression_algorithm=algorithm), pair)

    def test_the_likeliest_classes_with_their_labels(self):
        inputs = [make_input("image", np.concatenate([SEVEN, SEVEN[:, ::-1]]), "FP32")]
        tensors = self.client.infer("digits", inputs).as_numpy("probabilities")
        outputs = [triton.InferRequestedOutput("label"), triton.InferRequestedOutput("probabilities", class_count=3)]
        result = self.client.infer("digits", inputs, outputs=outputs)
        self.assertEqual(result.get_output("probabilities").datatype, "BYTES")
        self.assertTrue(result.as_numpy("probabilities")[0, 0].endswith(b":7:seven"))
        check_classes(self, result.as_numpy("probabilities"), tensors)
        self.assertEqual(result.as_numpy("label")[0], 7)
        with self.assertRaises(InferenceServerException) as caught:
            text = make_input("INPUT0", np.array([["a"]], dtype=np.object_), "BYTES")
            self.client.infer("identity_BYTES", [text], outputs=[triton.InferRequestedOutput("OUTPUT0", class_count=5)])
        self.assertIn("class result not available for output due to unsupported type 'BYTES'", caught.exception.message())

    def test_every_datatype_keeps_its_bits(self):
        for datatype, array in TENSORS.items():
            with self.subTest(datatype):
                result = self.client.infer(f"identity_{datatype}", [make_input("INPUT0", array, datatype)])
                self.assertTrue(same(result.as_numpy("OUTPUT0"), array), result.as_numpy("OUTPUT0"))

    def test_tensors_without_elements(self):
        for datatype, array in TENSORS.items():
            with self.subTest(datatype):
                empty = array[:, :0]
                result = self.client.infer(f"identity_{datatype}", [make_input("INPUT0", empty, datatype)])
                self.assertEqual(result.as_numpy("OUTPUT0").shape, (2, 0))

    def test_a_tensor_of_ten_megabytes(self):
        array = np.random.default_rng(1).random((1, 2_500_000), dtype=np.float32)
        result = self.client.infer("identity_FP32", [make_input("INPUT0", array, "FP32")])
        self.assertTrue(same(result.as_numpy("OUTPUT0"), array))

    def test_strings_are_joined(self):
        left = np.array([["one", "two"]], dtype=np.object_)
        right = np.array([["é", ""]], dtype=np.object_)
        inputs = [make_input("INPUT0", left, "BYTES"), make_input("INPUT1", right, "BYTES")]
        output = self.client.infer("strings", inputs).as_numpy("OUTPUT0")
        self.assertEqual([text.decode() for text in output.ravel()], ["oneé", "two"])

    def test_a_thousand_requests_by_callback(self):
        done = queue.Queue()
        sent = {}
        for i in range(1000):
            pair, inputs = simple_inputs(start=i)
            sent[str(i)] = pair
            self.client.async_infer(
                "simple",
                inputs,
                callback=lambda result, error: done.put((result, error)),
                request_id=str(i),
            )
        for _ in range(1000):
            result, error = done.get(timeout=240)
            self.assertIsNone(error)
            self.check_sum(result, sent.pop(result.get_response().id))

    def test_a_callback_gets_the_error(self):
        done = queue.Queue()
        _, inputs = simple_inputs()
        self.client.async_infer("nothing", inputs, callback=lambda result, error: done.put((result, error)))
        result, error = done.get(timeout=240)
        self.assertIsNone(result)
        self.assertIn("Request for unknown model: 'nothing' is not found", str(error))

    def test_a_callback_request_can_be_cancelled(self):
        done = queue.Queue()
        row = make_input("INPUT0", np.zeros((1, 16), dtype=np.float32), "FP32")
        context = self.client.async_infer("slow", [row], callback=lambda result, error: done.put((result, error)))
        context.cancel()
        result, error = done.get(timeout=240)
        self.assertIsNone(result)
        self.assertIn("CANCELLED", str(error.status()))

    def test_client_timeout(self):
        row = make_input("INPUT0", np.zeros((1, 16), dtype=np.float32), "FP32")
        with self.assertRaises(InferenceServerException) as caught:
            self.client.infer("slow", [row], client_timeout=0.05)
        self.assertIn("Deadline Exceeded", caught.exception.message())

    def test_health_and_metadata(self):
        self.assertTrue(self.client.is_server_live(headers={"test": "1", "dummy": "2"}))
        self.assertTrue(self.client.is_server_ready())
        self.assertTrue(self.client.is_model_ready("simple"))
        self.assertTrue(self.client.is_model_ready("simple", "1"))
        self.assertFalse(self.client.is_model_ready("nothing"))
        self.assertFalse(self.client.is_model_ready("simple", "99"))
        metadata = self.client.get_server_metadata()
        self.assertEqual(metadata.name, "interop")
        for extension in ("binary_tensor_data", "statistics", "model_configuration"):
            self.assertIn(extension, metadata.extensions)
        self.assertEqual(self.client.get_server_metadata(as_json=True)["name"], "interop")
        model = self.client.get_model_metadata("simple", headers={"test": "1"})
        self.assertEqual((model.name, list(model.versions), model.platform), ("simple", ["1"], "onnxruntime_onnx"))
        self.assertEqual([(one.name, one.datatype, list(one.shape)) for one in model.inputs], [("INPUT0", "INT32", [-1, 16]), ("INPUT1", "INT32", [-1, 16])])

    def test_config(self):
        config = self.client.get_model_config("simple").config
        self.assertEqual((config.name, config.max_batch_size, config.backend), ("simple", 8, "onnxruntime"))
        self.assertTrue(config.HasField("dynamic_batching"))
        self.assertEqual([list(one.dims) for one in config.input], [[16], [16]])
        as_json = self.client.get_model_config("digits", as_json=True)["config"]
        self.assertEqual(as_json["output"][0]["label_filename"], "labels.txt")

    def test_statistics(self):
        def simple():
            (statistics,) = self.client.get_inference_statistics(model_name="simple").model_stats
            return statistics

        before = simple()
        for _ in range(3):
            self.client.infer("simple", simple_inputs(rows=2)[1])
        after = simple()
        self.assertEqual(after.inference_count - before.inference_count, 6)
        self.assertEqual(after.inference_stats.success.count - before.inference_stats.success.count, 3)
        self.assertGreater(after.inference_stats.compute_infer.ns, before.inference_stats.compute_infer.ns)
        self.assertGreater(after.last_inference, 0)
        every = self.client.get_inference_statistics().model_stats
        self.assertGreater(len(every), 10)

    def test_index(self):
        models = {model.name: model for model in self.client.get_model_repository_index().models}
        self.assertEqual((models["simple"].version, models["simple"].state), ("1", "READY"))
        self.assertIn("identity_FP16", models)

    def test_error_texts(self):
        pair = simple_pair()
        one = make_input("INPUT0", pair[0], "INT32")
        two = make_input("INPUT1", pair[1], "INT32")
        wrong_shape = make_input("INPUT1", pair[1][:, :8], "INT32")
        wrong_type = make_input("INPUT1", pair[1].astype(np.float32), "FP32")
        stranger = make_input("INPUT9", pair[1], "INT32")
        many, nine = simple_inputs(rows=9)
        asked = triton.InferRequestedOutput("OUTPUT9")
        short = make_input("INPUT1", pair[1], "INT32")
        short._raw_content = short._raw_content[:60]
        for status, text, ask in [
            ("NOT_FOUND", "Request for unknown model: 'nothing' is not found", lambda: self.client.infer("nothing", [one, two])),
            ("NOT_FOUND", "Request for unknown model: 'simple' version 9 is not found", lambda: self.client.infer("simple", [one, two], model_version="9")),
            ("INVALID_ARGUMENT", "expected 2 inputs but got 1 inputs for model 'simple'", lambda: self.client.infer("simple", [one])),
            ("INVALID_ARGUMENT", "unexpected shape for input 'INPUT1' for model 'simple'. Expected [-1,16], got [1,8]", lambda: self.client.infer("simple", [one, wrong_shape])),
            ("INVALID_ARGUMENT", "inference input 'INPUT1' data-type is 'FP32', but model 'simple' expects 'INT32'", lambda: self.client.infer("simple", [one, wrong_type])),
            ("INVALID_ARGUMENT", "unexpected inference input 'INPUT9' for model 'simple'", lambda: self.client.infer("simple", [one, stranger])),
            ("INVALID_ARGUMENT", "unexpected inference output 'OUTPUT9' for model 'simple'", lambda: self.client.infer("simple", [one, two], outputs=[asked])),
            ("INVALID_ARGUMENT", "inference request batch-size must be <= 8 for 'simple'", lambda: self.client.infer("simple", nine)),
            ("INVALID_ARGUMENT", "input byte size mismatch for input 'INPUT1' for model 'simple'. Expected 64, got 60", lambda: self.client.infer("simple", [one, short])),
            ("NOT_FOUND", "Request for unknown model: 'nothing' is not found", lambda: self.client.get_model_metadata("nothing")),
            ("NOT_FOUND", "'nothing'", lambda: self.client.get_model_config("nothing")),
            ("UNAVAILABLE", "explicit model load / unload is not allowed", lambda: self.client.load_model("simple")),
            ("UNAVAILABLE", "explicit model load / unload is not allowed", lambda: self.client.unload_model("simple")),
            ("UNIMPLEMENTED", "shared memory", self.client.get_system_shared_memory_status),
            ("UNIMPLEMENTED", "shared memory", self.client.get_cuda_shared_memory_status),
            ("UNIMPLEMENTED", "", self.client.get_trace_settings),
            ("UNIMPLEMENTED", "", self.client.get_log_settings),
        ]:
            with self.subTest(text), self.assertRaises(InferenceServerException) as caught:
                ask()
            self.assertEqual(caught.exception.status(), f"StatusCode.{status}")
            self.assertIn(text, caught.exception.message())
        self.assertEqual(many[0].shape, (9, 16))

    def test_parameters_are_taken(self):
        pair, inputs = simple_inputs()
        result = self.client.infer("simple", inputs, priority=1, timeout=60_000_000, parameters={"who": "me", "count": 3, "ok": True})
        self.check_sum(result, pair)
        result = self.client.infer("simple", inputs, sequence_id=5, sequence_start=True, sequence_end=True)
        self.check_sum(result, pair)

    def test_keepalive_and_channel_arguments(self):
        pair, inputs = simple_inputs()
        keepalive = triton.KeepAliveOptions(keepalive_time_ms=100, keepalive_timeout_ms=60_000, keepalive_permit_without_calls=True)
        channel = [("grpc.primary_user_agent", "interop"), ("grpc.max_receive_message_length", -1)]
        for options in ({"keepalive_options": keepalive}, {"channel_args": channel}):
            with triton.InferenceServerClient(url=GRPC, **options) as client:
                self.check_sum(client.infer("simple", inputs), pair)


class Aio(unittest.IsolatedAsyncioTestCase):
    async def test_inference_health_and_errors(self):
        async with triton_aio.InferenceServerClient(url=GRPC) as client:
            self.assertTrue(await client.is_server_live())
            self.assertTrue(await client.is_server_ready())
            self.assertTrue(await client.is_model_ready("simple"))
            pair, inputs = simple_inputs(rows=4)
            result = await client.infer("simple", inputs, compression_algorithm="gzip", client_timeout=240)
            np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), pair[0] + pair[1])
            with self.assertRaises(InferenceServerException) as caught:
                await client.infer("nothing", inputs)
            self.assertIn("Request for unknown model", caught.exception.message())
            self.assertEqual((await client.get_server_metadata()).name, "interop")
            self.assertEqual((await client.get_model_config("simple")).config.max_batch_size, 8)
            self.assertEqual(len((await client.get_inference_statistics("simple")).model_stats), 1)

    async def test_many_at_once(self):
        import asyncio

        async with triton_aio.InferenceServerClient(url=GRPC) as client:
            asked = [simple_inputs(start=i) for i in range(200)]
            results = await asyncio.gather(*(client.infer("simple", inputs) for _, inputs in asked))
            for (pair, _), result in zip(asked, results):
                np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), pair[0] - pair[1])

    async def test_every_datatype_keeps_its_bits(self):
        async with triton_aio.InferenceServerClient(url=GRPC) as client:
            for datatype, array in TENSORS.items():
                with self.subTest(datatype):
                    result = await client.infer(f"identity_{datatype}", [make_input("INPUT0", array, datatype)])
                    self.assertTrue(same(result.as_numpy("OUTPUT0"), array))
