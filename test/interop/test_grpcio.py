"""grpcio with stubs generated from the protos of this repository: both services, health, typed contents, the budget in the trailer."""

import importlib
import pathlib
import sys
import tempfile
import unittest

import grpc
import grpc_tools
import numpy as np
from grpc_tools import protoc

from samples import GRPC, PROTO_DIR, TENSORS, same, simple_pair

_HEALTH = """syntax = "proto3";
package grpc.health.v1;
message HealthCheckRequest { string service = 1; }
message HealthCheckResponse {
  enum ServingStatus { UNKNOWN = 0; SERVING = 1; NOT_SERVING = 2; SERVICE_UNKNOWN = 3; }
  ServingStatus status = 1;
}
service Health {
  rpc Check(HealthCheckRequest) returns (HealthCheckResponse);
  rpc Watch(HealthCheckRequest) returns (stream HealthCheckResponse);
}
"""

_directory = tempfile.TemporaryDirectory()


def _generate():
    """Stubs of every proto in a directory that goes with this process."""
    target = _directory.name
    health = pathlib.Path(target, "tensorwire_health.proto")
    health.write_text(_HEALTH)
    include = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    protos = ["open_inference_grpc.proto", "model_config.proto", "inference_service.proto", health.name]
    arguments = ["", f"-I{PROTO_DIR}", f"-I{target}", f"-I{include}", f"--python_out={target}", f"--grpc_python_out={target}"]
    if protoc.main([*arguments, *protos]) != 0:
        raise RuntimeError("protoc failed")
    sys.path.insert(0, target)
    names = [proto.removesuffix(".proto") for proto in protos if proto != "model_config.proto"]
    return [(importlib.import_module(f"{name}_pb2"), importlib.import_module(f"{name}_pb2_grpc")) for name in names]


(OPEN, OPEN_GRPC), (V1, V1_GRPC), (HEALTH, HEALTH_GRPC) = _generate()

CONTENTS = {
    "BOOL": "bool_contents",
    **{f"INT{bits}": "int_contents" for bits in (8, 16, 32)},
    **{f"UINT{bits}": "uint_contents" for bits in (8, 16, 32)},
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


class OpenInference(unittest.TestCase):
    def setUp(self):
        channel = grpc.insecure_channel(GRPC)
        self.addCleanup(channel.close)
        self.stub = OPEN_GRPC.GRPCInferenceServiceStub(channel)

    def test_live_ready_and_metadata(self):
        self.assertTrue(self.stub.ServerLive(OPEN.ServerLiveRequest()).live)
        self.assertTrue(self.stub.ServerReady(OPEN.ServerReadyRequest()).ready)
        self.assertTrue(self.stub.ModelReady(OPEN.ModelReadyRequest(name="simple")).ready)
        self.assertEqual(self.stub.ServerMetadata(OPEN.ServerMetadataRequest()).name, "interop")
        self.assertEqual(self.stub.ModelMetadata(OPEN.ModelMetadataRequest(name="digits")).inputs[0].name, "image")
        self.assertEqual(self.stub.ModelConfig(OPEN.ModelConfigRequest(name="simple")).config.max_batch_size, 8)
        self.assertEqual(len(self.stub.ModelStatistics(OPEN.ModelStatisticsRequest(name="simple")).model_stats), 1)
        ready = self.stub.RepositoryIndex(OPEN.RepositoryIndexRequest(ready=True)).models
        self.assertTrue(all(model.state == "READY" for model in ready))

    def test_typed_contents_of_every_datatype(self):
        for datatype, array in TENSORS.items():
            if datatype == "FP16":
                continue
            with self.subTest(datatype):
                contents = OPEN.InferTensorContents(**{CONTENTS[datatype]: array.ravel().tolist()})
                request = OPEN.ModelInferRequest(model_name=f"identity_{datatype}")
                request.inputs.add(name="INPUT0", datatype=datatype, shape=array.shape, contents=contents)
                response = self.stub.ModelInfer(request)
                self.assertEqual(list(response.outputs[0].shape), list(array.shape))
                raw = response.raw_output_contents[0]
                if datatype == "BYTES":
                    expected = b"".join(len(text).to_bytes(4, "little") + text for text in array.ravel())
                    self.assertEqual(raw, expected)
                else:
                    self.assertTrue(same(np.frombuffer(raw, dtype=array.dtype).reshape(array.shape), array))

    def test_typed_and_raw_contents_do_not_mix(self):
        pair = simple_pair()
        request = OPEN.ModelInferRequest(model_name="simple", raw_input_contents=[pair[1].tobytes()])
        contents = OPEN.InferTensorContents(int_contents=pair[0].ravel().tolist())
        request.inputs.add(name="INPUT0", datatype="INT32", shape=[1, 16], contents=contents)
        request.inputs.add(name="INPUT1", datatype="INT32", shape=[1, 16])
        with self.assertRaises(grpc.RpcError) as caught:
            self.stub.ModelInfer(request)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
        self.assertIn("contents field must not be specified when using raw_input_contents for 'INPUT0'", caught.exception.details())

    def test_the_budget_is_in_the_trailer_of_replies_and_errors(self):
        pair = simple_pair()
        request = OPEN.ModelInferRequest(model_name="simple", raw_input_contents=[one.tobytes() for one in pair])
        for name in ("INPUT0", "INPUT1"):
            request.inputs.add(name=name, datatype="INT32", shape=[1, 16])
        _, call = self.stub.ModelInfer.with_call(request)
        phases = r"^receive;dur=\S+, decode;.* compute;dur=\d+\.\d{3}, .*total;dur=\d+\.\d{3}$"
        self.assertRegex(dict(call.trailing_metadata())["server-timing"], phases)
        with self.assertRaises(grpc.RpcError) as caught:
            self.stub.ModelInfer(OPEN.ModelInferRequest(model_name="nothing"))
        self.assertRegex(dict(caught.exception.trailing_metadata())["server-timing"], phases)

    def test_gzip_and_deflate(self):
        array = np.zeros((1, 200_000), dtype=np.float32)
        request = OPEN.ModelInferRequest(model_name="identity_FP32", raw_input_contents=[array.tobytes()])
        request.inputs.add(name="INPUT0", datatype="FP32", shape=array.shape)
        for algorithm in (grpc.Compression.Gzip, grpc.Compression.Deflate):
            with self.subTest(algorithm):
                self.assertEqual(self.stub.ModelInfer(request, compression=algorithm).raw_output_contents[0], array.tobytes())

    def test_a_deadline_is_kept(self):
        request = OPEN.ModelInferRequest(model_name="slow", raw_input_contents=[bytes(64)])
        request.inputs.add(name="INPUT0", datatype="FP32", shape=[1, 16])
        with self.assertRaises(grpc.RpcError) as caught:
            self.stub.ModelInfer(request, timeout=0.05)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)


class InferenceV1(unittest.TestCase):
    """The plain contract: named tensors with raw contents in, the same out."""

    def setUp(self):
        channel = grpc.insecure_channel(GRPC)
        self.addCleanup(channel.close)
        self.stub = V1_GRPC.InferenceServiceStub(channel)

    def infer(self, model, arrays, **fields):
        request = V1.ModelInferRequest(model_name=model, **fields)
        for name, (datatype, array) in arrays.items():
            request.inputs.append(V1.TensorData(name=name, shape=array.shape, datatype=datatype, raw_contents=array.tobytes()))
        return self.stub.ModelInfer(request)

    def test_server_metadata(self):
        metadata = self.stub.ServerMetadata(V1.ServerMetadataRequest())
        self.assertEqual(metadata.name, "interop")
        self.assertRegex(metadata.version, r"^\d+\.\d+\.\d+")

    def test_inference(self):
        pair = simple_pair(rows=2)
        response = self.infer(
            "simple",
            {"INPUT0": ("INT32", pair[0]), "INPUT1": ("INT32", pair[1])},
            model_version="1",
            parameters={"who": "me"},
        )
        self.assertEqual((response.model_name, response.model_version), ("simple", "1"))
        outputs = {one.name: np.frombuffer(one.raw_contents, dtype=np.int32).reshape(one.shape) for one in response.outputs}
        np.testing.assert_array_equal(outputs["OUTPUT0"], pair[0] + pair[1])
        np.testing.assert_array_equal(outputs["OUTPUT1"], pair[0] - pair[1])
        self.assertEqual([one.datatype for one in response.outputs], ["INT32", "INT32"])

    def test_every_datatype_keeps_its_bits(self):
        for datatype, array in TENSORS.items():
            if datatype == "BYTES":
                continue
            with self.subTest(datatype):
                (output,) = self.infer(f"identity_{datatype}", {"INPUT0": (datatype, array)}).outputs
                self.assertEqual((output.datatype, output.raw_contents), (datatype, array.tobytes()))

    def test_errors(self):
        with self.assertRaises(grpc.RpcError) as caught:
            self.infer("nothing", {})
        self.assertEqual(caught.exception.code(), grpc.StatusCode.NOT_FOUND)
        with self.assertRaises(grpc.RpcError) as caught:
            self.infer("simple", {"INPUT0": ("INT32", simple_pair()[0])})
        self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
        self.assertIn("expected 2 inputs but got 1 inputs", caught.exception.details())

    def test_a_name_and_bytes_are_one_string(self):
        request = V1.ModelInferRequest(model_name="identity_BYTES", model_version="1")
        tensor = V1.TensorData()
        tensor.name = "INPUT0"
        tensor.raw_contents = "Hello wörld".encode("utf-8")
        request.inputs.append(tensor)
        (output,) = self.stub.ModelInfer(request).outputs
        self.assertEqual((output.datatype, list(output.shape)), ("BYTES", [1, 1]))
        self.assertEqual(output.raw_contents[4:].decode(), "Hello wörld")

    def test_text_and_embeddings_of_multimodal_infer(self):
        request = V1.MultimodalInferRequest(model_name="identity_BYTES", inputs=[V1.InferenceInput(name="INPUT0", text="日本語")])
        (output,) = self.stub.MultimodalInfer(request).outputs
        self.assertEqual(output.raw_contents[4:].decode(), "日本語")
        embedding = V1.InferenceInput(embedding=V1.Embedding(values=[1.5, -2]))
        (output,) = self.stub.MultimodalInfer(V1.MultimodalInferRequest(model_name="identity_FP32", inputs=[embedding])).outputs
        np.testing.assert_array_equal(np.frombuffer(output.raw_contents, dtype=np.float32), [1.5, -2])
        with self.assertRaises(grpc.RpcError) as caught:
            picture = V1.InferenceInput(name="INPUT0", image_bytes=b"png")
            self.stub.MultimodalInfer(V1.MultimodalInferRequest(model_name="identity_FP32", inputs=[picture]))
        self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
        self.assertIn("was sent an image but takes a tensor FP32", caught.exception.details())

    def test_tokens_of_a_text(self):
        request = V1.ModelInferRequest(model_name="stories", parameters={"temperature": "0", "max_tokens": "8"})
        request.inputs.append(V1.TensorData(name="text_input", raw_contents=b"Once upon a time"))
        tokens = [reply.token for reply in self.stub.StreamingModelInfer(request)]
        self.assertGreater(len(tokens), 1)
        (output,) = self.stub.ModelInfer(request).outputs
        self.assertEqual(output.raw_contents[4:].decode(), "".join(tokens))


class Health(unittest.TestCase):
    def test_check_and_watch(self):
        with grpc.insecure_channel(GRPC) as channel:
            stub = HEALTH_GRPC.HealthStub(channel)
            serving = HEALTH.HealthCheckResponse.SERVING
            for service in ("", "inference.GRPCInferenceService", "inference.v1.InferenceService"):
                self.assertEqual(stub.Check(HEALTH.HealthCheckRequest(service=service)).status, serving)
            with self.assertRaises(grpc.RpcError) as caught:
                stub.Check(HEALTH.HealthCheckRequest(service="nothing"))
            self.assertEqual(caught.exception.code(), grpc.StatusCode.NOT_FOUND)
            watch = stub.Watch(HEALTH.HealthCheckRequest())
            self.assertEqual(next(watch).status, serving)
            watch.cancel()
