"""Measure how well a model segments a labelled folder: a checkpoint, an ONNX file or a server.

    ./run evaluate --data FOLDER --model build/weights/street-scenes.safetensors
    ./run evaluate --data FOLDER --model model_repository/pem_network/1/model.onnx
    ./run evaluate --data FOLDER --model grpc://127.0.0.1:8001

The protocol is ADE20K's: at the size of each image, pixels without a label left out, mean over
the classes in the labels. "served" is the class map that the server returns at threshold 0,
"semantic" (checkpoints only) the semantic inference of the original code, short side 512.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pem_client import PemError
from pem_server.console import log
from pem_training.predictors import ModelError, open_predictor
from pem_training.report import as_json, format_table, write_chart
from pem_training.score import score
from pemexport.repository_steps import ImageError
from pemexport.segmentation_scores import Scores, find_pairs
from pemseg import CheckpointError


def evaluate(
    data: Path, model: str, split: str, json_path: Path | None, chart_path: Path | None
) -> str:
    """Measure `model` on a split of `data`; returns the table, writes JSON and chart to paths."""
    pairs = find_pairs(data, split)
    matrices = score(open_predictor(model), pairs)
    evaluation = {name: Scores.from_confusion(matrix) for name, matrix in matrices.items()}
    if json_path is not None:
        content = as_json(model, str(data), len(pairs), evaluation)
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if chart_path is not None:
        title = f"{Path(model).name if Path(model).exists() else model}, {len(pairs)} images"
        write_chart(chart_path, title, evaluation)
    return format_table(evaluation)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="run evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the ADE20K layout")
    parser.add_argument("--model", required=True, help="a checkpoint, an ONNX file, a server's URL")
    parser.add_argument("--split", default="validation", help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw the classes there (.png)")
    options = parser.parse_args(argv)
    try:
        print(evaluate(options.data, options.model, options.split, options.json, options.chart))
    except (CheckpointError, ImageError, ModelError, PemError, OSError) as error:
        log(f"evaluate: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
