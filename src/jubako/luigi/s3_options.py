"""Luigi's options for a connection to S3, which are boto3's: where they stand, and how the client in use calls them."""

from __future__ import annotations

from collections.abc import Mapping
from configparser import NoSectionError
from typing import Any, Final

from jubako.flow.stores.store import find_store
from jubako.luigi.configuration import get_config
from jubako.luigi.log import logger

__all__ = ["DeprecatedBotoClientException", "assume_role", "read_section", "translate_options"]

_NAMES: Final[Mapping[str, str]] = {
    "aws_access_key_id": "key",
    "aws_secret_access_key": "secret",
    "aws_session_token": "token",
    "endpoint_url": "endpoint_url",
    "use_ssl": "use_ssl",
}
_OF_CLIENT: Final = ("region_name", "api_version", "verify")
_OF_ROLE: Final = ("aws_role_arn", "aws_role_session_name")


class DeprecatedBotoClientException(Exception):
    """An argument that boto had, and boto3 has not."""


def read_section() -> dict[str, Any]:
    """The section [s3] of the settings, without what is only there because it is in [DEFAULT]. Numbers are numbers."""
    config = get_config()
    defaults = dict(config.defaults()) if hasattr(config, "defaults") else {}
    try:
        section = dict(config.items("s3")) if hasattr(config, "items") else dict(config["s3"])
    except (NoSectionError, KeyError):
        return {}
    options: dict[str, Any] = {}
    for name, value in section.items():
        if name in defaults and defaults[name] == value:
            continue
        is_number = isinstance(value, str) and value.strip().lstrip("+-").isdecimal()
        options[name] = int(value) if is_number else value
    return options


def translate_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Storage options that say what `given` does. DeprecatedBotoClientException for what boto3 wouldn't know."""
    options: dict[str, Any] = {}
    for name, value in given.items():
        if name in _NAMES:
            options[_NAMES[name]] = value
        elif name in _OF_CLIENT:
            options.setdefault("client_kwargs", {})[name] = value
        elif name == "config":
            options["config_kwargs"] = dict(value._user_provided_options)
        elif name not in _OF_ROLE:
            logger.error("S3Client got an unexpected keyword argument '%s'", name)
            raise DeprecatedBotoClientException("Now using boto3. Check that you're passing the correct arguments")
    return options


def assume_role(given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with the credentials of the role in it, if one is; asked of AWS's token service."""
    arn, name = (given.get(option) for option in _OF_ROLE)
    options = {option: value for option, value in given.items() if option not in _OF_ROLE}
    if not (arn and name):
        return options
    answer = find_store("s3://").connection.ask_service("sts", "assume_role", RoleArn=arn, RoleSessionName=name)
    logger.debug("using aws credentials via assumed role %s as defined in luigi config", name)
    found = answer["Credentials"]
    return {
        **options,
        "aws_access_key_id": found["AccessKeyId"],
        "aws_secret_access_key": found["SecretAccessKey"],
        "aws_session_token": found["SessionToken"],
    }
