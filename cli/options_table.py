"""`docs/options.md`: every option with its names, unit, default and meaning, generated from the settings.

`python -m emperorctl.cli.options_table` prints it (`make docs` writes it); a test compares. No command imports it.
"""

from __future__ import annotations

import sys

from emperorctl.models.durations import format_duration
from emperorctl.models.settings import OPTIONS, Group, Kind, Option

__all__ = ["document"]

_INTRODUCTION = """\
# Options of the Emperor

Generated from `models/settings.py` by `make docs`.

An option can be given in four ways; the first that has it counts:

1. on the command line of `emperorctl run`: `--emperor-throttle 500`,
2. as an environment variable: `EMPERORCTL_EMPEROR_THROTTLE=500`,
3. in a configuration file: `emperorctl run emperor.ini` or `emperorctl run --ini emperor.ini`,
4. its default.

`emperorctl config view` with the same arguments shows what they amount to, and where each value came from.

**Repeatable** options are taken wholly from the first of these that has any: a source on the command line replaces
those of a file. Within the command line, and among files, they add up; of all others the last one counts. A variable
holds one value, or several as a JSON list: `EMPERORCTL_EMPEROR='["/etc/vassals", "/srv/*/app.ini"]'`.

**Files** end in `.ini`, `.xml`, `.yml`, `.yaml`, `.json`, `.js` (uWSGI's form: the options of its `uwsgi` section, or
of another one with `FILE:SECTION`) or `.toml`, `.yaml`, `.yml`, `.json` (native: `kind: Emperor`). Paths in them are
relative to the directory that the Emperor is started in, as in uWSGI.

```ini
[uwsgi]
base = /srv/emperor
emperor = %(base)/vassals
emperor-throttle = 500
emperor-stats = %(base)/stats.sock
```

```yaml
apiVersion: emperor/v1
kind: Emperor
spec:
  emperor: [/srv/emperor/vassals]
  emperorThrottle: 500ms
  emperorStats: /srv/emperor/stats.sock
```

In uWSGI's form names may have `_` for `-`, an option without a value is on, and numbers are plain, in the unit of the
table. `%n` and the other magic variables, `$(VARIABLE)`, `@(file)` and `%(key)` for an earlier key work; `set`,
`set-ph` and `set-placeholder`, `include`, `inherit`, `ini`, `xml`, `yaml`, `json` and `config` do what they do in
uWSGI; conditions and loops are refused. In the native form durations are written `500ms`, `30s`, `5m`, and unknown
fields are errors.

An option that means something to uWSGI but not to an Emperor (`master`, `processes` …) is named and ignored with a
warning; an unknown one is an error. `uid` and `gid` are refused where the Emperor would stay root in spite of them.
`socket` and `log-format` are other options in uWSGI's files: there, ours are `control-socket` and `emperor-log-format`.
`EMPERORCTL_INSTANCE` is a mark that the Emperor leaves in its vassals' environment, no option.
"""
_HEADER = "| option | native field | variable | value | default | meaning |\n| --- | --- | --- | --- | --- | --- |\n"


def document() -> str:
    """The whole page."""
    parts = [_INTRODUCTION]
    for group in Group:
        rows = [_row(option) for option in OPTIONS.values() if option.group is group]
        parts.append(f"\n## {group.value}\n{_HEADER}{''.join(rows)}")
    return "".join(parts)


def _row(option: Option) -> str:
    names = ", ".join(f"`{name}`" for name in (option.name, *option.aliases))
    meaning = option.help
    if option.own:
        meaning += " (Not an option of uWSGI.)"
    cells = (names, f"`{option.native}`", f"`{option.variables[0]}`", _value(option), _default(option), meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _value(option: Option) -> str:
    match option.kind:
        case Kind.FLAG:
            return "on or off"
        case Kind.CHOICE:
            return ", ".join(f"`{choice}`" for choice in option.choices)
        case Kind.SECONDS | Kind.MILLISECONDS:
            return f"{option.kind.value}; native: a duration"
        case Kind.NUMBER:
            return "a whole number"
        case Kind.LIST:
            return f"{option.metavar}, repeatable"
    return option.metavar


def _default(option: Option) -> str:
    value = option.default
    if option.default_text:
        return option.default_text
    match option.kind:
        case Kind.FLAG:
            return "off"
        case Kind.SECONDS:
            return f"{value:g} (`{format_duration(value)}`)"
        case Kind.MILLISECONDS:
            return f"{value} (`{format_duration(value / 1000)}`)"
    return "" if value in (None, ()) else f"`{value}`"


if __name__ == "__main__":
    sys.stdout.write(document())
