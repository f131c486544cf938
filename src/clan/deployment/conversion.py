"""From programs of Paddle to ONNX, by paddle2onnx."""

import contextlib
import io
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from clan.core.errors import ConfigError, WeightsError
from clan.core.files import quoted

TOOLS = ("onnx", "onnxruntime", "paddle2onnx")


def require_tools(names: Sequence[str] = TOOLS) -> None:
    """Checks early that what writes ONNX is installed.

    Raises:
        ConfigError: something is missing.
    """
    if missing := [name for name in names if find_spec(name) is None]:
        raise ConfigError(
            f"{', '.join(missing)} {'are' if len(missing) > 1 else 'is'} not installed, which ONNX is written with: "
            "run `python -m pip install 'clan-paddle[export]'`, or give --format paddle"
        )


def body_of(segmenter: Any, size: tuple[int, int] | None = None) -> Any:
    """A segmenter in ONNX, from normalised planes to logits; see `clan.deployment.program.Stacked`.

    Paddle2onnx's own optimizer stays off: it installs packages while it runs.

    Args:
        segmenter: the network.
        size: height and width of the planes; None: any.

    Raises:
        WeightsError: the network has an operator that paddle2onnx does not convert.
    """
    import onnx
    import paddle2onnx

    from clan.deployment import onnx_graph
    from clan.deployment.program import Stacked, planes_spec, save_program

    with TemporaryDirectory() as folder:
        stem = Path(folder) / "body"
        save_program(Stacked(segmenter), stem, planes_spec(size))
        told = io.StringIO()
        try:
            with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
                content = paddle2onnx.export(
                    f"{stem}.json", f"{stem}.pdiparams", None, opset_version=onnx_graph.OPSET, auto_upgrade_opset=False
                )
        except Exception as error:  # paddle2onnx logs the reason and then stumbles
            lines = [line for line in told.getvalue().splitlines() if "rror" in line or "not support" in line]
            reason = quoted(" ".join((lines or [str(error)])[0].split()))
            raise WeightsError(
                f"paddle2onnx cannot convert this network ({reason}): export it with --format paddle"
            ) from error
    return onnx_graph.with_initializers(onnx.load_from_string(content))
