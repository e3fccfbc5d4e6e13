"""The methods. `BUILTINS` is their table of contents: kind -> name -> "module:Class"."""

BUILTINS: dict[str, dict[str, str]] = {
    "datasets": {},
    "augmentations": {},
    "backbones": {},
    "ssl_methods": {},
    "selectors": {},
}
