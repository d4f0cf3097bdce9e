"""Command-line arguments: YAML files and dotted settings become a Config."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import register_type

from sign_ensemble.core.config import Config, Name
from sign_ensemble.core.config_checks import check, check_job_paths
from sign_ensemble.core.printable_text import one_line

NAMED_PATHS = ("--evaluate.near", "--evaluate.far")


def name_of(value: Any) -> Name:
    """A name from a YAML text or number; booleans and null are refused."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError(f"{value!r} is not a name; put it in quotes")
    return Name(value)


register_type(Name, serializer=str, deserializer=name_of, type_check=lambda v, t: type(v) is t)


class Parser(ArgumentParser):
    """A parser whose errors are one line after ``error:``, with exit code 2."""

    _file = ""

    def parse_path(self, path: Any, *rest: Any, **more: Any) -> Namespace:
        """As ArgumentParser's; errors name the file."""
        self._file = f"{path}: "
        try:
            found = super().parse_path(path, *rest, **more)
            self.validate(found, skip_required=True)  # else unknown settings are noticed later
            return found
        except UnicodeDecodeError:
            self.error("not a text file")
        except (TypeError, KeyError) as fault:
            self.error(str(fault), fault)
        finally:
            self._file = ""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the message as one line and exit."""
        text = " ".join(
            str(message).replace("Expected a typing.Literal[", "Expected one of [").split()
        )
        text = re.sub(r"Expected a <class '(\w+)'>", r"Expected a value of type \1", text)
        text = re.sub(
            r"Does not validate .*: \[<class '(\w+)'>, <class 'NoneType'>\].* Given value: ",
            r"Expected a value of type \1 or null. Got value: ",
            text,
        )
        line = one_line(f"error: {self._file}{text} (--help lists every setting)")
        print(line, file=sys.stderr)
        sys.exit(2)


def named_paths(arguments: Sequence[str]) -> list[str]:
    """``--evaluate.far name=path`` as jsonargparse takes it: ``--evaluate.far.name=path``."""
    out: list[str] = []
    waiting = ""
    for argument in arguments:
        flag, _, value = argument.partition("=")
        if waiting and "=" in argument and not argument.startswith(("-", "{")):
            out[-1] = f"{waiting}.{argument}"
            waiting = ""
        elif flag in NAMED_PATHS and "=" in value and not value.startswith("{"):
            out.append(f"{flag}.{value}")
            waiting = ""
        else:
            out.append(argument)
            waiting = argument if argument in NAMED_PATHS else ""
    return out


def parser_for(name: str, description: str) -> Parser:
    """A parser with every group of settings."""
    parser = Parser(
        prog=f"python -m sign_ensemble.{name}",
        usage="%(prog)s [--config FILE] [--group.setting VALUE ...]",
        description=description,
        default_env=False,
        parser_mode="yaml",
    )
    parser.add_argument(
        "--config",
        action="config",
        help="YAML file with the settings that differ from the defaults",
    )
    for group, default in vars(Config()).items():
        parser.add_class_arguments(type(default), group)
    return parser


def config_of(parser: Parser, parsed: Namespace) -> Config:
    """The parsed and checked config.

    Raises:
        UserError: a value breaks its rule.
    """
    made: Any = parser.instantiate(parsed)
    config = Config(**{name: made[name] for name in vars(Config())})
    check(config)
    check_job_paths(config)
    return config
