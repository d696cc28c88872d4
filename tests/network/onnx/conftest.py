"""Files that all tests of ONNX share, each exported once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.network.onnx.exports import Exported


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """From the name of a network to the network, its samples and its files."""
    folder, made = tmp_path_factory.mktemp("onnx"), {}

    def get(name: str) -> Exported:
        if name not in made:
            made[name] = Exported(name, folder)
        return made[name]

    return get
