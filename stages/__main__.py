"""The command line: `trt-pipeline VERB`, or `python -m stages VERB`; the Makefile has a target for most verbs."""

import argparse
from pathlib import Path

from stages.core import errors


def parser() -> argparse.ArgumentParser:
    """All verbs and their arguments."""
    top = argparse.ArgumentParser(prog="trt-pipeline", description=__doc__)
    verbs = top.add_subparsers(dest="verb", required=True)
    check = verbs.add_parser("check", help="print the choice; the exit status says how it ended")
    compared = check.add_mutually_exclusive_group()
    compared.add_argument("--against", metavar="REV", help="fail on what got worse since that git revision")
    compared.add_argument("--upgrade", metavar="OLD:NEW", help="fail if a lock of a runtime is worse than another")
    verbs.add_parser("store", help="print the address of the MLflow store")
    run = verbs.add_parser("run", help="run a pipeline command, then print the table and the verdict")
    run.add_argument("--engine", choices=("local", "ray"), help="set execution.engine in params.yaml first")
    run.add_argument("command", nargs=argparse.REMAINDER)
    predict = verbs.add_parser("predict", help="classify images with a converted variant")
    predict.add_argument("--variant")
    predict.add_argument("images", nargs="+")
    export = verbs.add_parser("export", help="write the chosen variant for TensorFlow Serving and Triton")
    export.add_argument("--to", type=Path, required=True)
    clean = verbs.add_parser("clean", help="remove results and fetched data")
    clean.add_argument("--demo", type=Path, metavar="FOLDER", help="remove that whole checkout instead")
    env = verbs.add_parser("env", help="list, make, remove or check the environments of runtimes")
    does = env.add_subparsers(dest="work", required=True)
    does.add_parser("list", help="show each with its Python, versions, size and state")
    does.add_parser("check", help="ask each that is made whether its packages are those of its lock")
    for work, what in (("make", "make it, if it is not there"), ("remove", "remove it, whatever lock it was made of")):
        does.add_parser(work, help=what).add_argument("name")
    deps = verbs.add_parser("deps", help="write the code dependencies of dvc.yaml from the imports")
    deps.add_argument("--check", action="store_true", help="only compare; the exit status is 1 if they differ")
    return top


def answer(arguments: argparse.Namespace) -> int:
    """Do what the command line says; returns the exit status. Each verb imports what it needs, and no more."""
    if arguments.verb == "check":
        from stages.commands import check, upgrade

        wanted = arguments.upgrade
        return check.check(arguments.against) if wanted is None else upgrade.check(wanted)
    if arguments.verb == "run":
        from stages.commands import run

        if not arguments.command:
            parser().error("run needs a command, such as: run dvc repro --ignore-errors")
        run.run(arguments.command, arguments.engine)
    elif arguments.verb == "predict":
        from stages.commands import predict

        predict.predict(arguments.images, arguments.variant or None)
    elif arguments.verb == "clean":
        from stages.commands import clean

        clean.clean(arguments.demo)
    elif arguments.verb == "env":
        from stages.commands import environments

        return environments.answer(arguments.work, getattr(arguments, "name", ""))
    elif arguments.verb == "deps":
        from stages.commands import dependencies

        dependencies.main(arguments.check)
    elif arguments.verb == "export":
        from stages.commands import export

        export.export(arguments.to)
    else:
        from stages.commands import store

        store.show()
    return 0


def main() -> None:
    """Read the command line and do what it says; an error is one sentence."""
    arguments = parser().parse_args()
    status = 0

    def work() -> None:
        nonlocal status
        status = answer(arguments)

    errors.run(work)
    raise SystemExit(status)


if __name__ == "__main__":
    main()
