"""`jubako completion bash|zsh|fish`: print the script that teaches a shell to complete jubako's words.

The script asks jubako itself for each word, so it never gets out of step: commands, options, the names of a
pipeline's tasks, and a task's parameters.
"""

from __future__ import annotations

import click

from jubako.cli.terminal import echo

__all__ = ["completion"]

_EPILOG = """\b
Examples:
  bash  jubako completion bash > ~/.local/share/bash-completion/completions/jubako
  zsh   jubako completion zsh > ~/.zfunc/_jubako      # with ~/.zfunc in fpath
  fish  jubako completion fish > ~/.config/fish/completions/jubako.fish"""


@click.command(epilog=_EPILOG)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of SHELL, to be saved where the shell looks for such scripts."""
    from click.shell_completion import ShellComplete, get_completion_class

    from jubako.cli.main import jubako

    kind = get_completion_class(shell)
    assert kind is not None  # click knows the three shells of the choice
    script = ShellComplete.source(kind(jubako, {}, "jubako", "_JUBAKO_COMPLETE"))
    echo(script.strip())
