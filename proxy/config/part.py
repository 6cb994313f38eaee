"""What all parts of the policy file's model share: strict keys, typed text, lists that may be one value.

The input is the plain tree of `document`: text, lists and dictionaries, nothing else. A mistake is a
`Wrong` raised by a reader; pydantic collects them all with their paths.
"""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
)
from pydantic_core import CoreSchema, core_schema

from proxy.config.note import Wrong

T = TypeVar("T")
Json = dict[str, Any]

VARIABLE = r"\$\{"
"""An environment variable may stand for any value, so no pattern of the JSON Schema excludes one."""


class Part(BaseModel):
    """A mapping of the policy file. Unknown keys are mistakes.

    later: keys that the design names and this version does not have. barred: keys that exist
    elsewhere and make no sense here, with the reason.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, protected_namespaces=())

    later: ClassVar[frozenset[str]] = frozenset()
    barred: ClassVar[dict[str, str]] = {}


def any_key(*keys: str) -> ConfigDict:
    """For a part's JSON Schema: at least one of these keys is there. (`whole` and validators refuse the rest.)"""
    return ConfigDict(json_schema_extra={"anyOf": [{"required": [key]} for key in keys]})


class Typed:
    """Annotation of a value that is written as text: how it is read, and its JSON Schema."""

    def __init__(self, read: Callable[[str], Any], schema: Json) -> None:
        self._read = read
        self._schema = schema

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        def validate(value: object) -> object:
            return self._read(as_text(value))

        return core_schema.no_info_plain_validator_function(validate)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Json:
        return dict(self._schema)


class TypedHere:
    """As Typed, for a reader that also takes the surroundings (the validation's context)."""

    def __init__(self, read: Callable[[str, Any], Any], schema: Json) -> None:
        self._read = read
        self._schema = schema

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        def validate(value: object, info: core_schema.ValidationInfo) -> object:
            return self._read(as_text(value), info.context)

        return core_schema.with_info_plain_validator_function(validate)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Json:
        return dict(self._schema)


def as_text(value: object) -> str:
    if not isinstance(value, str):
        kind = "a mapping" if isinstance(value, dict) else "a list"
        raise Wrong(f"expected a single value, found {kind}", "write one value")
    return str(value)  # of `document.Brought` the plain text alone


def pattern(expression: str) -> Json:
    """JSON Schema of text that matches it all, or holds a variable."""
    return {"type": "string", "pattern": f"^(?:{expression})$|{VARIABLE}"}


def words(*known: str) -> Json:
    """JSON Schema of a choice; 1.2 and the like may also be written as numbers."""
    numbers = [float(word) if "." in word else int(word) for word in known if word.replace(".", "").isdigit()]
    return {"anyOf": [{"enum": [*known, *numbers]}, {"type": "string", "pattern": VARIABLE}]}


class _List:
    """Annotation of a list that is never empty; where it may be single, one value stands for a list of one."""

    def __init__(self, *, single: bool) -> None:
        self._single = single

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._items, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Json:
        several = {**handler(schema), "minItems": 1}
        return {"anyOf": [several["items"], several]} if self._single else several

    def _items(self, value: object) -> object:
        if value == []:
            raise Wrong("the list is empty", "name something, or leave the key out")
        if self._single and not isinstance(value, list):
            return [value]
        if not isinstance(value, list):
            kind = "a mapping" if isinstance(value, dict) else "a single value"
            raise Wrong(f"expected a list, found {kind}", "write [...] around it, or a dash before each")
        return value


Several = Annotated[tuple[T, ...], _List(single=False)]
OneOrSeveral = Annotated[tuple[T, ...], _List(single=True)]
