"""The scripts that `ttt-run --completion SHELL` prints: each asks ttt.cli.completion.answer.

    eval "$(ttt-run --completion bash)"     in ~/.bashrc; zsh alike, in ~/.zshrc
    ttt-run --completion fish | source      in ~/.config/fish/config.fish

Where nothing fits, each shell offers files.
"""

from __future__ import annotations

import shlex
import sys

from ttt.cli.commands import COMMANDS
from ttt.config.messages import UsageError, suggest

BASH = r"""_ttt_complete() {
    local IFS=$' \t\n' typed="${COMP_LINE:0:COMP_POINT}" words answers
    read -ra words <<< "$typed"
    [[ $typed == *[[:space:]] ]] && words+=("")
    answers="$(ANSWER "${words[@]}" 2>/dev/null)"
    # Readline replaces only what follows its last word break, such as =.
    local current="${words[${#words[@]} - 1]}"
    local before="${current%"${current##*[$COMP_WORDBREAKS]}"}"
    IFS=$'\n'
    COMPREPLY=($answers)
    COMPREPLY=("${COMPREPLY[@]#"$before"}")
    [[ ${#COMPREPLY[@]} -eq 1 && $COMPREPLY == *[=./] ]] && compopt -o nospace
}
complete -o bashdefault -o default -F _ttt_complete COMMANDS
"""
ZSH = r"""(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
_ttt_complete() {
    local -a answers
    answers=(${(f)"$(ANSWER "${(@)words[1,CURRENT-1]}" "$PREFIX" 2>/dev/null)"})
    if (( $#answers )); then
        compadd -S '' -- ${(M)answers:#*[=./]}
        compadd -- ${answers:#*[=./]}
    else
        compset -P '*='
        _files
    fi
}
compdef _ttt_complete COMMANDS
"""
FISH = r"""function __ttt_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l answers (ANSWER $words "$current" 2>/dev/null)
    if set -q answers[1]
        printf '%s\n' $answers
    else
        string match -rq '^(?<before>.*=)?(?<value>.*)$' -- "$current"
        __fish_complete_path "$value" | string replace -r '^' "$before"
    end
end
for name in COMMANDS
    complete -c $name -f -a '(__ttt_complete)'
end
"""
SCRIPTS = {"bash": BASH, "fish": FISH, "zsh": ZSH}


def script(shell: str) -> str:
    """The script for a shell. Raises UsageError for another one."""
    if shell not in SCRIPTS:
        raise UsageError(f"--completion {shell}: unknown; {suggest(shell, SCRIPTS)}")
    # -P: the folder one works in holds no modules of ours.
    answer = f"{shlex.quote(sys.executable)} -P -m ttt.cli.completion.answer"
    return SCRIPTS[shell].replace("ANSWER", answer).replace("COMMANDS", " ".join(COMMANDS))
