"""The client of the article that inference.v1 comes from: its contract, stubs generated from it, the calls that it makes, in its order."""

import asyncio
import importlib
import pathlib
import sys
import tempfile
import unittest

import grpc
from grpc_tools import protoc

from samples import GRPC

#: The article's contract, which has no MultimodalInfer and no comments.
CONTRACT = """syntax = "proto3";
package inference.v1;
service InferenceService {
  rpc ModelInfer(ModelInferRequest) returns (ModelInferResponse) {}
  rpc StreamingModelInfer(ModelInferRequest) returns (stream ModelStreamResponse) {}
  rpc ServerMetadata(ServerMetadataRequest) returns (ServerMetadataResponse) {}
}
message TensorData { string name = 1; repeated int64 shape = 2; string datatype = 3; bytes raw_contents = 4; }
message ModelInferRequest {
  string model_name = 1;
  string model_version = 2;
  repeated TensorData inputs = 3;
  map<string, string> parameters = 4;
}
message ModelInferResponse { string model_name = 1; string model_version = 2; repeated TensorData outputs = 3; }
message ModelStreamResponse { string token = 1; float logits = 2; }
message ServerMetadataRequest {}
message ServerMetadataResponse { string name = 1; string version = 2; }
"""

_directory = tempfile.TemporaryDirectory()


def _generate():
    target = _directory.name
    pathlib.Path(target, "inference_service.proto").write_text(CONTRACT)
    if protoc.main(["", f"-I{target}", f"--python_out={target}", f"--grpc_python_out={target}", "inference_service.proto"]) != 0:
        raise RuntimeError("protoc failed")
    sys.path.insert(0, target)
    return importlib.import_module("inference_service_pb2"), importlib.import_module("inference_service_pb2_grpc")


V1, V1_GRPC = _generate()


def text_request(model_name, text, **parameters):
    """As the article builds it: version 1.0, a tensor with a name and bytes and nothing else."""
    request = V1.ModelInferRequest()
    request.model_name = model_name
    request.model_version = "1.0"
    tensor = V1.TensorData()
    tensor.name = "input"
    tensor.raw_contents = text.encode("utf-8")
    request.inputs.append(tensor)
    for name, value in parameters.items():
        request.parameters[name] = value
    return request


def only_text(response):
    """The one BYTES element of an answer."""
    (output,) = response.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("text_output", "BYTES", [1]), response
    assert int.from_bytes(output.raw_contents[:4], "little") == len(output.raw_contents) - 4
    return output.raw_contents[4:].decode()


class Article(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.channel = grpc.aio.insecure_channel(GRPC)
        self.addAsyncCleanup(self.channel.close)
        self.stub = V1_GRPC.InferenceServiceStub(self.channel)

    async def tokens(self, request):
        return [token async for token in self.stub.StreamingModelInfer(request)]

    async def test_the_calls_of_the_article_in_its_order(self):
        request = text_request("stories", "Once upon a time", temperature="0", max_tokens="40")
        whole = only_text(await self.stub.ModelInfer(request))
        tokens = await self.tokens(request)
        self.assertGreater(len(tokens), 10)
        self.assertTrue(all(token.token for token in tokens))
        self.assertTrue(all(token.logits != 0 for token in tokens))
        self.assertEqual("".join(token.token for token in tokens), whole)

    async def test_sampling_by_parameters(self):
        drawn = {"temperature": "1", "seed": "7", "top_k": "50", "max_tokens": "24"}
        first, again = [await self.tokens(text_request("stories", "Once upon a time", **drawn)) for _ in range(2)]
        self.assertEqual([token.token for token in first], [token.token for token in again])
        short = await self.tokens(text_request("stories", "Once upon a time", temperature="0", max_tokens="3"))
        self.assertLessEqual(len(short), 3)

    async def test_all_of_the_text_in_one_message(self):
        request = text_request("stories", "Once upon a time", temperature="0", max_tokens="24")
        pieces = await self.tokens(request)
        request.parameters["stream"] = "false"
        (whole,) = await self.tokens(request)
        self.assertEqual(whole.token, "".join(piece.token for piece in pieces))

    async def test_many_at_once_write_what_each_writes_alone(self):
        prompts = [f"Once upon a time there was a {name}" for name in ("cat", "dog", "girl", "boy", "bird", "fox")]
        requests = [text_request("stories", prompt, temperature="0", max_tokens="30") for prompt in prompts]
        alone = [await self.tokens(request) for request in requests]
        together = await asyncio.gather(*(self.tokens(request) for request in requests))
        for one, other in zip(alone, together):
            self.assertEqual([token.token for token in one], [token.token for token in other])

    async def test_a_cancel_leaves_the_others_alone(self):
        request = text_request("stories", "Once upon a time", temperature="0", max_tokens="60", ignore_eos="true")
        expected = [token.token for token in await self.tokens(request)]
        call = self.stub.StreamingModelInfer(request)
        await call.read()
        call.cancel()
        self.assertEqual([token.token for token in await self.tokens(request)], expected)

    async def test_the_budget_is_in_the_trailer(self):
        call = self.stub.StreamingModelInfer(text_request("stories", "Once", temperature="0", max_tokens="4"))
        self.assertLessEqual(len([token async for token in call]), 4)
        trailer = dict(await call.trailing_metadata())
        self.assertRegex(trailer["server-timing"], r"^receive;dur=\S+, decode;.* prefill;dur=\S+, .*total;dur=\d+\.\d{3}$")

    async def test_errors(self):
        for request, code, text in [
            (text_request("nothing", "text"), grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'nothing'"),
            (text_request("simple", "text"), grpc.StatusCode.INVALID_ARGUMENT, "generates no text"),
            (text_request("stories", "text", temperature="-1"), grpc.StatusCode.INVALID_ARGUMENT, "temperature"),
            (text_request("stories", "text", wings="2"), grpc.StatusCode.INVALID_ARGUMENT, "wings"),
            (text_request("stories", "word " * 5000), grpc.StatusCode.INVALID_ARGUMENT, "stories"),
        ]:
            with self.subTest(text), self.assertRaises(grpc.aio.AioRpcError) as caught:
                await self.tokens(request)
            self.assertEqual(caught.exception.code(), code)
            self.assertIn(text, caught.exception.details())

    async def test_server_metadata(self):
        metadata = await self.stub.ServerMetadata(V1.ServerMetadataRequest())
        self.assertEqual(metadata.name, "interop")
