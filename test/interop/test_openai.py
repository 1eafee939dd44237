"""OpenAI's own Python client: embeddings of texts and tokens in every encoding, models, errors; synchronous and asyncio."""

import asyncio
import base64
import unittest

import numpy as np
import openai

from samples import HTTP

URL = f"http://{HTTP}/v1"
TEXTS = ["the weather in the city", "coffee and music", "cafe\u0301 \u65e5\u672c\u8a9e \U0001f600", "hello world " * 40]


def vectors(reply):
    return np.array([item.embedding for item in reply.data], dtype=np.float32)


class Embeddings(unittest.TestCase):
    def setUp(self):
        self.client = openai.OpenAI(base_url=URL, api_key="none", max_retries=0)
        self.addCleanup(self.client.close)

    def test_texts_come_back_as_unit_vectors_in_their_order(self):
        reply = self.client.embeddings.create(model="sentences", input=TEXTS)
        self.assertEqual((reply.object, reply.model), ("list", "sentences"))
        self.assertEqual([item.index for item in reply.data], [0, 1, 2, 3])
        self.assertGreater(reply.usage.prompt_tokens, len(TEXTS))
        self.assertEqual(reply.usage.prompt_tokens, reply.usage.total_tokens)
        together = vectors(reply)
        np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
        for text, vector in zip(TEXTS, together):
            alone = vectors(self.client.embeddings.create(model="sentences", input=text))[0]
            np.testing.assert_allclose(alone, vector, atol=1e-5)

    def test_numbers_and_base64_are_the_same(self):
        numbers = vectors(self.client.embeddings.create(model="sentences", input=TEXTS, encoding_format="float"))
        coded = self.client.embeddings.create(model="sentences", input=TEXTS, encoding_format="base64")
        for vector, item in zip(numbers, coded.data):
            decoded = np.frombuffer(base64.b64decode(item.embedding), dtype="<f4")
            np.testing.assert_allclose(decoded, vector, atol=1e-5)

    def test_tokens_are_taken_in_place_of_texts(self):
        one = self.client.embeddings.create(model="sentences", input=[2, 90, 91, 3])
        two = self.client.embeddings.create(model="sentences", input=[[2, 90, 91, 3], [2, 5, 3]])
        self.assertEqual((one.usage.prompt_tokens, two.usage.prompt_tokens), (4, 7))
        np.testing.assert_allclose(vectors(one)[0], vectors(two)[0], atol=1e-5)

    def test_a_thousand_texts_in_one_request(self):
        texts = [f"text number {i} {'word ' * (i % 17)}" for i in range(1000)]
        reply = self.client.embeddings.create(model="sentences", input=texts)
        self.assertEqual([item.index for item in reply.data], list(range(1000)))
        alone = self.client.embeddings.create(model="sentences", input=texts[777])
        np.testing.assert_allclose(vectors(reply)[777], vectors(alone)[0], atol=1e-5)

    def test_errors_have_the_classes_of_the_client(self):
        width = vectors(self.client.embeddings.create(model="sentences", input="x")).shape[1]
        for error, code, param, body in (
            (openai.NotFoundError, "model_not_found", "model", {"model": "nobody", "input": "x"}),
            (openai.BadRequestError, None, "model", {"model": "simple", "input": "x"}),
            (openai.BadRequestError, None, "input", {"model": "sentences", "input": ""}),
            (openai.BadRequestError, None, "input", {"model": "sentences", "input": []}),
            (openai.BadRequestError, None, "dimensions", {"model": "sentences", "input": "x", "dimensions": width - 1}),
        ):
            with self.subTest(body=body), self.assertRaises(error) as caught:
                self.client.embeddings.create(**body)
            self.assertEqual((caught.exception.code, caught.exception.param), (code, param))
        with self.assertRaises(openai.BadRequestError) as caught:
            self.client.chat.completions.create(model="sentences", messages=[{"role": "user", "content": "hi"}])
        self.assertEqual(caught.exception.param, "model")

    def test_a_chat_streams_and_says_what_it_used(self):
        question = [{"role": "user", "content": "What is 3 plus 4?"}]
        whole = self.client.chat.completions.create(model="stories", messages=question, temperature=0)
        self.assertIn("7", whole.choices[0].message.content)
        chunks = list(
            self.client.chat.completions.create(
                model="stories", messages=question, temperature=0, stream=True, stream_options={"include_usage": True}
            )
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        self.assertEqual(text, whole.choices[0].message.content)
        self.assertEqual(chunks[-1].usage.completion_tokens, whole.usage.completion_tokens)

    def test_models_are_listed_and_found(self):
        names = [model.id for model in self.client.models.list()]
        self.assertIn("sentences", names)
        self.assertEqual(len(names), len(set(names)))
        self.assertEqual(self.client.models.retrieve("sentences").owned_by, "tensorwire")
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("nobody")

    def test_asyncio_clients_share_a_connection_pool(self):
        async def main():
            async with openai.AsyncOpenAI(base_url=URL, api_key="none", max_retries=0) as client:
                create = client.embeddings.create
                return await asyncio.gather(*(create(model="sentences", input=f"text {i}") for i in range(50)))

        for i, reply in enumerate(asyncio.run(main())):
            with self.subTest(i=i):
                alone = self.client.embeddings.create(model="sentences", input=f"text {i}")
                np.testing.assert_allclose(vectors(reply), vectors(alone), atol=1e-5)
