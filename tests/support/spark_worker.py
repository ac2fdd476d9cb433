"""Run SQL in a Spark of its own: a program that `support.spark` talks to by lines of JSON."""

from __future__ import annotations

import datetime
import decimal
import json
import sys


def _plain(value: object) -> object:
    if isinstance(value, datetime.date | decimal.Decimal):
        return str(value)
    if isinstance(value, bytes | bytearray):
        return value.hex()
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    return value


def main() -> None:
    """Answer each line."""
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[1]")
    for name, value in json.loads(sys.argv[1]).items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    answers = sys.stdout
    answers.write(json.dumps({"rows": []}) + "\n")
    answers.flush()
    for line in sys.stdin:
        try:
            rows = [_plain(tuple(row)) for row in spark.sql(json.loads(line)).collect()]
            answer: dict[str, object] = {"rows": rows}
        except Exception as error:  # noqa: BLE001  # said to who asked
            answer = {"error": str(error)[:2000]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    spark.stop()


if __name__ == "__main__":
    main()
