"""Luigi's settings files: luigi.cfg or luigi.toml, and where they are looked for.

    cfg     /etc/luigi/client.cfg, /etc/luigi/luigi.cfg, client.cfg, luigi.cfg, then $LUIGI_CONFIG_PATH; later ones win
    toml    /etc/luigi/luigi.toml, luigi.toml, then $LUIGI_CONFIG_PATH; with LUIGI_CONFIG_PARSER=toml

In cfg files `${NAME}` is an environment variable and `%(name)s` another option; options may be written with dashes. A
section called like a task family holds values for its parameters: `Settings` is what parameters ask.
"""

from __future__ import annotations

import os
import re
import tomllib
import warnings
from collections.abc import Callable
from configparser import (
    BasicInterpolation,
    ConfigParser,
    InterpolationError,
    NoOptionError,
    NoSectionError,
)
from typing import Any, ClassVar, Final, Self

from jubako.flow.parameters import InvalidParameterException, UnconsumedParameterWarning
from jubako.flow.parameters.frozen import freeze
from jubako.flow.tasks.register import Register, TaskClassException

__all__ = [
    "InterpolationMissingEnvvarError",
    "LuigiConfigParser",
    "LuigiTomlParser",
    "Settings",
    "add_config_path",
    "get_config",
]

_VARIABLE: Final = re.compile(r"\$\{([^}]+)\}")
_NOT_THERE: Final = (NoSectionError, NoOptionError, KeyError)


class InterpolationMissingEnvvarError(InterpolationError):
    """A setting refers to an environment variable that is not set."""

    def __init__(self, option: str, section: str, value: str, envvar: str) -> None:
        super().__init__(
            option,
            section,
            f"Config refers to a nonexisting environment variable {envvar}. "
            f"Section [{section}], option {option}={value}",
        )


class _Interpolation(BasicInterpolation):
    """`%(name)s`, then `${NAME}` from the environment."""

    def before_get(self, parser: Any, section: str, option: str, value: str, defaults: Any) -> str:
        text = super().before_get(parser, section, option, value, defaults)

        def look_up(match: re.Match[str]) -> str:
            try:
                return os.environ[match[1]]
            except KeyError:
                raise InterpolationMissingEnvvarError(option, section, text, match[1]) from None

        return _VARIABLE.sub(look_up, text)


class _Files:
    """One set of settings for the whole process, read from a list of paths that may grow."""

    enabled: ClassVar[bool] = True
    _config_paths: ClassVar[list[str]]
    _instance: ClassVar[Any] = None

    @classmethod
    def instance(cls) -> Self:
        """The settings, read when they are first asked for."""
        if cls._instance is None:
            cls._instance = cls()
            cls._instance.read(cls._config_paths)
        found: Self = cls._instance
        return found

    @classmethod
    def reload(cls) -> Any:
        """Reads all files again."""
        return cls.instance().read(cls._config_paths)

    @classmethod
    def add_config_path(cls, path: str) -> None:
        """Reads one more file, whose settings win."""
        cls._config_paths.append(path)
        cls.reload()

    def read(self, config_paths: Any, encoding: str | None = None) -> Any:
        raise NotImplementedError


class LuigiConfigParser(_Files, ConfigParser):
    """Settings from cfg files. `get` and its kin take a default."""

    NO_DEFAULT: ClassVar[Any] = object()
    _DEFAULT_INTERPOLATION = _Interpolation()
    _config_paths: ClassVar[list[str]] = ["/etc/luigi/client.cfg", "/etc/luigi/luigi.cfg", "client.cfg", "luigi.cfg"]

    def optionxform(self, optionstr: str) -> str:
        return optionstr

    def read(self, filenames: Any, encoding: str | None = None) -> Any:
        read = ConfigParser.read(self, filenames, encoding)
        old = [path for path in read if os.path.basename(path) == "client.cfg"]
        if old:
            warnings.warn(
                f"Luigi configuration files named 'client.cfg' are deprecated if favor of 'luigi.cfg'. Found: {old!r}",
                DeprecationWarning,
                stacklevel=2,
            )
        return read

    def has_option(self, section: str, option: str) -> bool:
        return self._spelling(section, option) is not None

    def get(self, section: str, option: str, default: Any = NO_DEFAULT, **kwargs: Any) -> Any:  # type: ignore[override]
        return self._look_up(section, option, default, object, str, **kwargs)

    def getboolean(self, section: str, option: str, default: Any = NO_DEFAULT) -> Any:  # type: ignore[override]
        return self._look_up(section, option, default, bool, _to_boolean)

    def getint(self, section: str, option: str, default: Any = NO_DEFAULT) -> Any:  # type: ignore[override]
        return self._look_up(section, option, default, int, int)

    def getfloat(self, section: str, option: str, default: Any = NO_DEFAULT) -> Any:  # type: ignore[override]
        return self._look_up(section, option, default, float, float)

    def getintdict(self, section: str) -> dict[str, int]:
        """All options of a section, as whole numbers; without those of [DEFAULT]."""
        if not self.has_section(section):
            return {}
        common = self.defaults()
        return {name: int(value) for name, value in self.items(section) if name not in common}

    def set(self, section: str, option: str, value: str | None = None) -> None:
        if not self.has_section(section):
            self.add_section(section)
        ConfigParser.set(self, section, option, value)

    def _look_up(
        self, section: str, option: str, default: Any, kind: type, convert: Callable[[str], Any], **kwargs: Any
    ) -> Any:
        spelling = self._spelling(section, option)
        if spelling is not None:
            return convert(ConfigParser.get(self, section, spelling, **kwargs))
        if "fallback" in kwargs:  # how a section's own get() asks
            return kwargs["fallback"]
        if default is self.NO_DEFAULT or not (default is None or isinstance(default, kind)):
            raise (
                NoOptionError(option.replace("_", "-"), section)
                if self.has_section(section)
                else NoSectionError(section)
            )
        return default

    def _spelling(self, section: str, option: str) -> str | None:
        """How the option is written in the section, with underscores or dashes; None if it isn't there."""
        for spelling in dict.fromkeys((option.replace("-", "_"), option.replace("_", "-"))):
            if ConfigParser.has_option(self, section, spelling):
                if "-" in spelling:
                    warnings.warn(
                        f"Configuration [{section}] {spelling} (with dashes) should be avoided. "
                        f"Please use underscores: {option.replace('-', '_')}.",
                        DeprecationWarning,
                        stacklevel=4,
                    )
                return spelling
        return None


class LuigiTomlParser(_Files):
    """Settings from toml files: values keep the types they have there; tables become immutable mappings."""

    NO_DEFAULT: ClassVar[Any] = object()
    _config_paths: ClassVar[list[str]] = ["/etc/luigi/luigi.toml", "luigi.toml"]

    def __init__(self) -> None:
        self.data: dict[str, dict[str, Any]] = {}

    def read(self, config_paths: Any, encoding: str | None = None) -> dict[str, dict[str, Any]]:
        self.data = {}
        for path in config_paths:
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    for section, content in tomllib.load(file).items():
                        own = self.data.setdefault(section, {})
                        own.update((k, freeze(v) if isinstance(v, dict) else v) for k, v in content.items())
        return self.data

    def sections(self) -> list[str]:
        return list(self.data)

    def has_section(self, section: str) -> bool:
        return section in self.data

    def has_option(self, section: str, option: str) -> bool:
        return option in self.data.get(section, {})

    def get(self, section: str, option: str, default: Any = NO_DEFAULT, **kwargs: Any) -> Any:
        try:
            return self.data[section][option]
        except KeyError:
            if default is self.NO_DEFAULT:
                raise
            return default

    def getboolean(self, section: str, option: str, default: Any = NO_DEFAULT) -> Any:
        return self.get(section, option, default)

    def getint(self, section: str, option: str, default: Any = NO_DEFAULT) -> Any:
        return self.get(section, option, default)

    def getfloat(self, section: str, option: str, default: Any = NO_DEFAULT) -> Any:
        return self.get(section, option, default)

    def getintdict(self, section: str) -> dict[str, Any]:
        return self.data.get(section, {})

    def set(self, section: str, option: str, value: Any = None) -> None:
        self.data.setdefault(section, {})[option] = value

    def __getitem__(self, name: str) -> dict[str, Any]:
        return self.data[name]


_PARSERS: Final[dict[str, Any]] = {
    "cfg": LuigiConfigParser,
    "conf": LuigiConfigParser,
    "ini": LuigiConfigParser,
    "toml": LuigiTomlParser,
}


def get_config(parser: str | None = None) -> Any:
    """The settings of this process: of the parser named, or of the one in $LUIGI_CONFIG_PARSER, or of cfg files."""
    return _PARSERS[_usual_parser() if parser is None else parser].instance()


def add_config_path(path: str) -> bool:
    """Reads one more file, whose settings win; False, with a warning, if it isn't there."""
    if not os.path.isfile(path):
        warnings.warn(f"Config file does not exist: {path}", stacklevel=2)
        return False
    usual = _usual_parser()
    ending = os.path.splitext(path)[1].removeprefix(".")
    parser = ending if ending in _PARSERS else usual
    if parser != usual:
        warnings.warn(
            f"Config for {parser} parser added, but used {usual} parser. "
            f"Set up right parser via env var: export LUIGI_CONFIG_PARSER={parser}",
            stacklevel=2,
        )
    _PARSERS[parser].add_config_path(path)
    return True


class Settings:
    """The settings as a source of parameter values (`flow.parameters.source`).

    Warns, once for each, of settings in the section of a family that are no parameters of it.
    """

    def __init__(self) -> None:
        self._warned: set[tuple[str, str]] = set()

    def get(self, key: tuple[str, str], /) -> Any:
        section, option = key
        config = get_config()
        if not config.has_section(section):  # nearly always, and quick
            return None
        try:
            self._warn_of_unconsumed(config, section)
            return config.get(section, option)
        except _NOT_THERE:
            return None
        except InterpolationError as error:
            raise InvalidParameterException(str(error)) from error

    def _warn_of_unconsumed(self, config: Any, family: str) -> None:
        try:
            cls = Register.get_task_cls(family)
        except TaskClassException:
            return
        known = {name for name, _ in cls.get_params()} | set(getattr(cls, "ignore_unconsumed", ()))
        for option, value in config[family].items():
            name = option.replace("-", "_")
            if name not in known and (family, name) not in self._warned:
                self._warned.add((family, name))
                warnings.warn(
                    f"The configuration contains the parameter '{name}' with value '{value}' that is not consumed by "
                    f"the task '{family}'.",
                    UnconsumedParameterWarning,
                    stacklevel=2,
                )


def _usual_parser() -> str:
    parser = os.environ.get("LUIGI_CONFIG_PARSER", "cfg")
    if parser not in _PARSERS:
        warnings.warn(f"Invalid parser: {parser}", stacklevel=3)
        return "cfg"
    return parser


def _to_boolean(text: str) -> bool:
    try:
        return ConfigParser.BOOLEAN_STATES[text.lower()]
    except KeyError:
        raise ValueError(f"Not a boolean: {text}") from None


if "LUIGI_CONFIG_PATH" in os.environ:
    add_config_path(os.environ["LUIGI_CONFIG_PATH"])
