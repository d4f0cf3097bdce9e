"""Command-line arguments: YAML files and dotted settings become a Config."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, get_args, get_type_hints

import yaml
from jsonargparse import ArgumentParser, Namespace, get_loader, set_loader
from jsonargparse.typing import register_type

from sign_ensemble.core.config import Config
from sign_ensemble.core.config_checks import check, check_job_paths
from sign_ensemble.core.names import Name
from sign_ensemble.core.printable_text import one_line

NAMED_PATHS = ("--evaluate.near", "--evaluate.far")


def name_of(value: Any) -> Name:
    """A name from text."""
    if not isinstance(value, str) or not Name(value):
        raise ValueError(f"{value!r} is not a name")
    return Name(value)


register_type(Name, serializer=str, deserializer=name_of, type_check=lambda v, t: type(v) is t)


def is_text(hint: Any) -> bool:
    """Whether a setting's type is text or made of texts."""
    return hint in (str, Name) or any(map(is_text, get_args(hint)))


HINTS = [
    (f"--{group}.{key}", hint)
    for group, settings in vars(Config()).items()
    for key, hint in get_type_hints(type(settings)).items()
    if is_text(hint)
]
TEXTS = {flag.split(".")[1] for flag, _ in HINTS}  # settings that are text or made of it
LISTS = {flag for flag, hint in HINTS if Name in get_args(hint) or list[Name] in get_args(hint)}


def quote(node: yaml.Node, inside: bool = True) -> None:
    """Make every scalar a text as it was typed; a null that is not ``inside`` a list stays null."""
    if isinstance(node, yaml.ScalarNode):
        if inside or node.tag != "tag:yaml.org,2002:null":
            node.tag, node.style = "tag:yaml.org,2002:str", '"'
    else:
        for part in node.value:
            for each in part if isinstance(part, tuple) else (part,):
                quote(each)


def quote_texts(node: yaml.Node | None) -> bool:
    """Quote the values of all settings that are text, and say whether there was one."""
    found = False
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value in TEXTS:
                quote(value, inside=False)
                found = True
            else:
                found |= quote_texts(value)
    return found


READ_YAML = get_loader("yaml")


def read_yaml(text: str) -> Any:
    """YAML in which texts are what was typed: a signer ``01`` is no number, a label ``no`` no truth
    value.
    """
    node = yaml.compose(text, yaml.SafeLoader)
    return READ_YAML(yaml.serialize(node, allow_unicode=True) if quote_texts(node) else text)


set_loader("yaml", read_yaml, exceptions=(yaml.YAMLError,))


def quoted(argument: str) -> str:
    """A list of names, given as YAML, with its names in quotes; anything else as it is."""
    try:
        names = yaml.load(argument, yaml.BaseLoader)
    except yaml.YAMLError:
        return argument
    return json.dumps(names, ensure_ascii=False) if isinstance(names, list) else argument


class Parser(ArgumentParser):
    """A parser whose errors are one line after ``error:``, with exit code 2."""

    _file = ""

    def parse_args(  # type: ignore[override]  # as in jsonargparse
        self, args: Sequence[str] | None = None, *rest: Any, **more: Any
    ) -> Namespace:
        """As ArgumentParser's; names are what was typed."""
        given = list(sys.argv[1:] if args is None else args)
        for i, argument in enumerate(given):
            flag, equals, value = argument.partition("=")
            if flag.removesuffix("+") in LISTS and equals:
                given[i] = f"{flag}={quoted(value)}"
            elif i and given[i - 1].removesuffix("+") in LISTS:
                given[i] = quoted(argument)
        return super().parse_args(given, *rest, **more)

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
