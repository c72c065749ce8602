"""The scripts that complete the words of `vitral` in bash, zsh and fish; they start no Python."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from vitral.commands.completion.words import Words

__all__ = ["completion_script"]

POSIX = """# Completion of vitral for {shell}, written by: vitral completion {shell}

_vitral_flags() {{
    case "$1" in
{flags}
    esac
}}

_vitral_candidates() {{  # number of the word, the word before it, the word, the command, the word after the command
    if [ "$1" -eq 1 ]; then
        printf '%s\\n' {commands}
        return
    fi
    case "$3" in
    -*)
        _vitral_flags "$4/"
        [ "$1" -gt 2 ] && _vitral_flags "$4/$5"
        return
        ;;
    esac
    case "$4 $2" in
{values}
    esac
    if [ "$1" -eq 2 ]; then
        case "$4" in
{first}
        esac
    fi
}}
"""
"""Functions of bash and zsh that print candidates, one a line; none where a path is expected."""

BASH = """
_vitral() {
    local current="${COMP_WORDS[COMP_CWORD]}"
    local words
    words="$(_vitral_candidates "$COMP_CWORD" "${COMP_WORDS[COMP_CWORD - 1]}" "$current" "${COMP_WORDS[1]}" \\
        "${COMP_WORDS[2]}")"
    local IFS=$'\\n'
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o bashdefault -o default -F _vitral vitral
"""
"""Readline completes paths where there are no candidates."""

ZSH = """
_vitral() {
    local -a candidates
    candidates=(${(f)"$(_vitral_candidates $((CURRENT - 1)) "$words[CURRENT - 1]" "$words[CURRENT]" "$words[2]" \\
        "$words[3]")"})
    compadd -a candidates || _files
}
if [ "$funcstack[1]" = _vitral ]; then
    _vitral "$@"
else
    compdef _vitral vitral
fi
"""
"""Called as an autoloaded function, or sourced."""

FISH = """# Completion of vitral for fish, written by: vitral completion fish

function __vitral_flags
    switch $argv[1]
{flags}
    end
end

function __vitral_candidates
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    if string match -q -- '-*' $current
        __vitral_flags "$words[2]/"
        if set -q words[3]
            __vitral_flags "$words[2]/$words[3]"
        end
        return
    end
    switch "$words[2] $words[-1]"
{values}
    end
    if test (count $words) -eq 2
        switch $words[2]
{first}
        end
    end
end

complete -c vitral -e
complete -c vitral -n 'test (count (commandline -opc)) -eq 1' -f
{commands}
complete -c vitral -n 'test (count (commandline -opc)) -gt 1' -a '(__vitral_candidates)'
"""


def completion_script(words: Words, shell: str) -> str:
    """The script of a shell: bash, zsh or fish."""
    flags, values, first = map(_by_candidates, (words.flags, words.values, words.first))
    if shell == "fish":
        lines = [
            f"complete -c vitral -n 'test (count (commandline -opc)) -eq 1' -f -a {name} -d {_fish_quoted(summary)}"
            for name, summary in words.commands.items()
        ]
        return FISH.format(
            flags=_fish_cases(flags, 1),
            values=_fish_cases(values, 1),
            first=_fish_cases(first, 2),
            commands="\n".join(lines),
        )
    script = POSIX.format(
        shell=shell,
        flags=_posix_cases(flags, 1),
        values=_posix_cases(values, 1, stop=True),
        first=_posix_cases(first, 2),
        commands=" ".join(words.commands),
    )
    return script + BASH if shell == "bash" else "#compdef vitral\n" + script + ZSH


def _by_candidates(table: Mapping[str, tuple[str, ...]]) -> dict[tuple[str, ...], list[str]]:
    """The keys of each set of candidates."""
    keys: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for key, candidates in table.items():
        if candidates:
            keys[candidates].append(key)
    return keys


def _posix_cases(table: Mapping[tuple[str, ...], Iterable[str]], level: int, *, stop: bool = False) -> str:
    indent = "    " * level
    lines = []
    for candidates, keys in table.items():
        lines.append(f"{indent}{' | '.join(map(_posix_pattern, keys))})")
        lines.append(f"{indent}    printf '%s\\n' {' '.join(candidates)}")
        lines += [f"{indent}    return"] * stop
        lines.append(f"{indent}    ;;")
    return "\n".join(lines)


def _posix_pattern(key: str) -> str:
    """The key quoted, except for an asterisk in front."""
    return f"*'{key[1:]}'" if key.startswith("*") else f"'{key}'"


def _fish_cases(table: Mapping[tuple[str, ...], Iterable[str]], level: int) -> str:
    indent = "    " * level
    return "\n".join(
        f"{indent}    case {' '.join(map(_fish_quoted, keys))}\n{indent}        printf '%s\\n' {' '.join(candidates)}"
        for candidates, keys in table.items()
    )


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
