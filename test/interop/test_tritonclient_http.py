"""tritonclient over HTTP: synchronous, greenlets, asyncio; JSON and binary tensors; compression; the calls and texts of its examples."""

import asyncio
import json
import unittest
import urllib.request

import numpy as np
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from samples import HTTP, SEVEN, TENSORS, check_classes, same, simple_pair


def make_input(name, array, datatype, binary=True):
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def simple_inputs(rows=1, start=0, binary=True):
    pair = simple_pair(rows, start)
    return pair, [make_input(f"INPUT{i}", array, "INT32", binary) for i, array in enumerate(pair)]


class Sync(unittest.TestCase):
    def setUp(self):
        self.client = triton.InferenceServerClient(url=HTTP, concurrency=8)
        self.addCleanup(self.client.close)

    def check_sum(self, result, pair):
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), pair[0] + pair[1])
        np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), pair[0] - pair[1])

    def test_json_and_binary_mixed_both_ways(self):
        pair = simple_pair()
        for first in (True, False):
            for second in (True, False):
                with self.subTest(binary=(first, second)):
                    inputs = [make_input("INPUT0", pair[0], "INT32", first), make_input("INPUT1", pair[1], "INT32", second)]
                    outputs = [
                        triton.InferRequestedOutput("OUTPUT0", binary_data=second),
                        triton.InferRequestedOutput("OUTPUT1", binary_data=first),
                    ]
                    query = {"test_1": 1, "test_2": 2}
                    result = self.client.infer("simple", inputs, outputs=outputs, query_params=query, headers={"test": "1"})
                    self.check_sum(result, pair)
                    self.check_sum(self.client.infer("simple", inputs, outputs=None), pair)

    def test_compression_both_ways(self):
        pair, inputs = simple_inputs(rows=8)
        for request in ("gzip", "deflate", None):
            for response in ("gzip", "deflate", None):
                with self.subTest(request=request, response=response):
                    result = self.client.infer(
                        "simple",
                        inputs,
                        request_compression_algorithm=request,
                        response_compression_algorithm=response,
                    )
                    self.check_sum(result, pair)

    def test_a_compressed_reply_is_compressed(self):
        body = json.dumps({"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1, 1000], "data": [0.5] * 1000}]})
        asked = urllib.request.Request(f"http://{HTTP}/v2/models/identity_FP32/infer", body.encode(), {"Accept-Encoding": "gzip"})
        with urllib.request.urlopen(asked) as reply:
            self.assertEqual(reply.headers["content-encoding"], "gzip")
            self.assertLess(len(reply.read()), 1000)

    def test_the_likeliest_classes_with_their_labels(self):
        inputs = [make_input("image", np.concatenate([SEVEN, SEVEN[:, ::-1]]), "FP32")]
        tensors = self.client.infer("digits", inputs).as_numpy("probabilities")
        for binary in (True, False):
            with self.subTest(binary=binary):
                output = triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=3)
                result = self.client.infer("digits", inputs, outputs=[output])
                self.assertEqual(result.get_output("probabilities")["datatype"], "BYTES")
                check_classes(self, result.as_numpy("probabilities"), tensors)

    def test_every_datatype_keeps_its_bits_in_binary(self):
        for datatype, array in TENSORS.items():
            with self.subTest(datatype):
                result = self.client.infer(f"identity_{datatype}", [make_input("INPUT0", array, datatype)])
                self.assertTrue(same(result.as_numpy("OUTPUT0"), array), result.as_numpy("OUTPUT0"))

    def test_every_datatype_but_fp16_in_json(self):
        for datatype, array in TENSORS.items():
            if datatype == "FP16":
                continue
            with self.subTest(datatype):
                inputs = [make_input("INPUT0", array, datatype, binary=False)]
                outputs = [triton.InferRequestedOutput("OUTPUT0", binary_data=False)]
                output = self.client.infer(f"identity_{datatype}", inputs, outputs=outputs).as_numpy("OUTPUT0")
                if datatype in ("FP32", "FP64"):
                    # The client prints NaN with the sign that it likes; the others are exact.
                    np.testing.assert_array_equal(output, array)
                else:
                    self.assertTrue(same(output, array), output)

    def test_fp16_as_json_is_refused_with_the_way_out(self):
        array = TENSORS["FP16"]
        outputs = [triton.InferRequestedOutput("OUTPUT0", binary_data=False)]
        with self.assertRaises(InferenceServerException) as caught:
            self.client.infer("identity_FP16", [make_input("INPUT0", array, "FP16")], outputs=outputs)
        self.assertIn("sending FP16 data via JSON is not supported", caught.exception.message())

    def test_tensors_without_elements(self):
        for datatype, array in TENSORS.items():
            with self.subTest(datatype):
                result = self.client.infer(f"identity_{datatype}", [make_input("INPUT0", array[:, :0], datatype)])
                self.assertEqual(result.get_output("OUTPUT0")["shape"], [2, 0])

    def test_a_tensor_of_ten_megabytes(self):
        array = np.random.default_rng(1).random((1, 2_500_000), dtype=np.float32)
        result = self.client.infer("identity_FP32", [make_input("INPUT0", array, "FP32")])
        self.assertTrue(same(result.as_numpy("OUTPUT0"), array))

    def test_strings_are_joined(self):
        left = np.array([["one", "two"]], dtype=np.object_)
        right = np.array([["é", ""]], dtype=np.object_)
        for binary in (True, False):
            with self.subTest(binary=binary):
                inputs = [make_input("INPUT0", left, "BYTES", binary), make_input("INPUT1", right, "BYTES", binary)]
                outputs = [triton.InferRequestedOutput("OUTPUT0", binary_data=binary)]
                output = self.client.infer("strings", inputs, outputs=outputs).as_numpy("OUTPUT0")
                texts = [text.decode() if isinstance(text, bytes) else text for text in output.ravel()]
                self.assertEqual(texts, ["oneé", "two"])

    def test_many_requests_in_greenlets(self):
        asked = [simple_inputs(start=i) for i in range(200)]
        waiting = [self.client.async_infer("simple", inputs) for _, inputs in asked]
        for (pair, _), one in zip(asked, waiting):
            self.check_sum(one.get_result(timeout=240), pair)

    def test_a_greenlet_gets_the_error(self):
        waiting = self.client.async_infer("nothing", simple_inputs()[1])
        with self.assertRaises(InferenceServerException) as caught:
            waiting.get_result()
        self.assertIn("Request for unknown model: 'nothing' is not found", caught.exception.message())

    def test_body_made_and_parsed_without_the_client(self):
        pair, inputs = simple_inputs()
        body, header_length = triton.InferenceServerClient.generate_request_body(inputs)
        headers = {"Inference-Header-Content-Length": str(header_length)} if header_length else {}
        asked = urllib.request.Request(f"http://{HTTP}/v2/models/simple/infer", bytes(body), headers)
        with urllib.request.urlopen(asked) as reply:
            length = reply.headers.get("Inference-Header-Content-Length")
            result = triton.InferenceServerClient.parse_response_body(reply.read(), header_length=length and int(length))
        self.check_sum(result, pair)

    def test_health_and_metadata(self):
        query = {"test_1": 1}
        self.assertTrue(self.client.is_server_live(query_params=query, headers={"test": "1"}))
        self.assertTrue(self.client.is_server_ready())
        self.assertTrue(self.client.is_model_ready("simple"))
        self.assertTrue(self.client.is_model_ready("simple", "1"))
        self.assertFalse(self.client.is_model_ready("nothing"))
        metadata = self.client.get_server_metadata()
        self.assertEqual(metadata["name"], "interop")
        self.assertIn("binary_tensor_data", metadata["extensions"])
        model = self.client.get_model_metadata("simple", query_params=query)
        self.assertEqual((model["name"], model["versions"], model["platform"]), ("simple", ["1"], "onnxruntime_onnx"))
        self.assertEqual(model["inputs"][0], {"name": "INPUT0", "datatype": "INT32", "shape": [-1, 16]})

    def test_config_statistics_and_index(self):
        config = self.client.get_model_config("simple")
        self.assertEqual((config["name"], config["max_batch_size"], config["backend"]), ("simple", 8, "onnxruntime"))
        self.assertEqual(config["input"][0]["dims"], [16])
        before = self.client.get_inference_statistics("simple")["model_stats"][0]
        self.client.infer("simple", simple_inputs(rows=2)[1])
        after = self.client.get_inference_statistics("simple")["model_stats"][0]
        self.assertEqual(after["inference_count"] - before["inference_count"], 2)
        names = {"success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss"}
        self.assertEqual(set(after["inference_stats"]), names)
        self.assertGreater(len(self.client.get_inference_statistics()["model_stats"]), 10)
        index = {model["name"]: model for model in self.client.get_model_repository_index()}
        self.assertEqual((index["simple"]["version"], index["simple"]["state"]), ("1", "READY"))

    def test_error_texts(self):
        pair = simple_pair()
        one = make_input("INPUT0", pair[0], "INT32")
        two = make_input("INPUT1", pair[1], "INT32")
        _, nine = simple_inputs(rows=9)
        for status, text, ask in [
            ("404", "Request for unknown model: 'nothing' is not found", lambda: self.client.infer("nothing", [one, two])),
            ("404", "Request for unknown model: 'simple' version 9 is not found", lambda: self.client.infer("simple", [one, two], model_version="9")),
            ("400", "expected 2 inputs but got 1 inputs for model 'simple'", lambda: self.client.infer("simple", [one])),
            ("400", "inference request batch-size must be <= 8 for 'simple'", lambda: self.client.infer("simple", nine)),
            ("400", "unexpected shape for input 'INPUT1'", lambda: self.client.infer("simple", [one, make_input("INPUT1", pair[1][:, :8], "INT32")])),
            ("400", "data-type is 'INT64', but model 'simple' expects 'INT32'", lambda: self.client.infer("simple", [one, make_input("INPUT1", pair[1].astype(np.int64), "INT64")])),
            ("404", "Request for unknown model: 'nothing' is not found", lambda: self.client.get_model_metadata("nothing")),
            ("503", "explicit model load / unload is not allowed", lambda: self.client.load_model("simple")),
            ("503", "explicit model load / unload is not allowed", lambda: self.client.unload_model("simple")),
            ("501", "shared memory", self.client.get_system_shared_memory_status),
            ("501", "", self.client.get_trace_settings),
            ("501", "", self.client.get_log_settings),
        ]:
            with self.subTest(text), self.assertRaises(InferenceServerException) as caught:
                ask()
            self.assertEqual(caught.exception.status(), status)
            self.assertIn(text, caught.exception.message())

    def test_parameters_are_taken(self):
        pair, inputs = simple_inputs()
        result = self.client.infer("simple", inputs, request_id="abc", priority=1, timeout=60_000_000, parameters={"who": "me", "count": 3})
        self.check_sum(result, pair)
        self.assertEqual(result.get_response()["id"], "abc")

    def test_the_budget_is_on_the_reply(self):
        with urllib.request.urlopen(f"http://{HTTP}/v2/health/ready") as reply:
            self.assertRegex(reply.headers["server-timing"], r"total;dur=\d+\.\d{3}")
            self.assertEqual(json.load(reply), {"ready": True, "live": True})


class Aio(unittest.IsolatedAsyncioTestCase):
    async def test_inference_health_and_errors(self):
        async with triton_aio.InferenceServerClient(url=HTTP) as client:
            self.assertTrue(await client.is_server_live())
            self.assertTrue(await client.is_server_ready())
            self.assertTrue(await client.is_model_ready("simple"))
            pair, inputs = simple_inputs(rows=4)
            for algorithm in ("gzip", "deflate", None):
                result = await client.infer("simple", inputs, request_compression_algorithm=algorithm, response_compression_algorithm=algorithm)
                np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), pair[0] + pair[1])
            with self.assertRaises(InferenceServerException) as caught:
                await client.infer("nothing", inputs)
            self.assertIn("Request for unknown model", caught.exception.message())
            self.assertEqual((await client.get_server_metadata())["name"], "interop")

    async def test_many_at_once(self):
        async with triton_aio.InferenceServerClient(url=HTTP) as client:
            asked = [simple_inputs(start=i, binary=i % 2 == 0) for i in range(200)]
            results = await asyncio.gather(*(client.infer("simple", inputs) for _, inputs in asked))
            for (pair, _), result in zip(asked, results):
                np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), pair[0] - pair[1])
