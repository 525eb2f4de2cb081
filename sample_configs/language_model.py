"""A small language model of Transformers, and text that comes with Python: documentation strings of its library."""

import ast
import math
import sysconfig
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import LlamaConfig, LlamaForCausalLM

import dcomp

MODULES = (
    *("argparse", "ast", "asyncio.tasks", "collections", "concurrent.futures._base", "configparser", "contextlib"),
    *("csv", "dataclasses", "datetime", "decimal", "difflib", "doctest", "email.message", "enum", "fractions"),
    *("functools", "gettext", "heapq", "http.client", "http.server", "inspect", "ipaddress", "json", "locale"),
    *("logging", "mailbox", "multiprocessing.pool", "optparse", "os", "pathlib", "pdb", "pickle", "pickletools"),
    *("random", "shutil", "smtplib", "socket", "ssl", "statistics", "string", "subprocess", "tarfile", "tempfile"),
    *("textwrap", "threading", "tokenize", "turtle", "typing", "unittest.case", "unittest.mock", "urllib.request"),
    *("uuid", "warnings", "zipfile"),
)
LENGTH = 64  # bytes of an example


class Chunks(Dataset):
    """Pieces of a text of LENGTH bytes each; a byte is a token."""

    def __init__(self, text: bytes) -> None:
        pieces = len(text) // LENGTH
        self.tokens = torch.tensor(list(text[: pieces * LENGTH])).reshape(pieces, LENGTH)

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return the tokens as a model of Transformers takes them."""
        return {"input_ids": self.tokens[index], "labels": self.tokens[index]}


def docstrings() -> bytes:
    """Return the documentation strings of the modules and of all that they define, as ASCII text."""
    library, texts = Path(sysconfig.get_path("stdlib")), []
    for name in MODULES:
        path = library / f"{name.replace('.', '/')}.py"
        source = path if path.exists() else path.with_suffix("") / "__init__.py"
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                texts.append(ast.get_docstring(node) or "")
    return "\n\n".join(text for text in texts if text).encode("ascii", "ignore")


def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the mean cross-entropy of a byte, given those before it, in nats."""
    return model(**batch).loss


def metrics(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the same in bits, which is what a compressor of text by this model would need."""
    nats = loss(model, batch)
    return {"bits_per_byte": nats / math.log(2), "loss": nats}


def network() -> nn.Module:
    """Return a Llama with fresh weights: two layers, of 96 values for a token."""
    config = LlamaConfig(
        vocab_size=128,
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        tie_word_embeddings=True,
        use_cache=False,
    )
    return LlamaForCausalLM(config)


def task(most_bytes: int = 500_000) -> dcomp.Task:
    """Return the task; the last tenth of the text is for testing."""
    text = docstrings()[:most_bytes]
    end = len(text) * 9 // 10
    return dcomp.Task(
        train=Chunks(text[:end]), test=Chunks(text[end:]), loss=loss, metrics=metrics, judge="bits_per_byte"
    )
