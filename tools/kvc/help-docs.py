"""Makes the man page and the bash completion of kvc from what `kvc --help`
prints, so that neither can say anything else.

    help-docs.py KVC VERSION MAN_PAGE COMPLETION
"""
import re
import subprocess
import sys


def helpOf(kvc, *verb):
    return subprocess.run([kvc, *verb, "--help"], check=True, text=True,
                          stdout=subprocess.PIPE).stdout


class Help:
    """One --help text, taken apart: usage, flags with their values, and the
    paragraphs that follow the flags."""

    FLAG = re.compile(r"  (-\S+(?: <[^>]*>)?)\s+- (.*)")
    VALUE = re.compile(r"    =(\S+)(?:\s+-\s+(.*))?")
    SUBCOMMAND = re.compile(r"  ([a-z-]+)\s+- (.*)")

    def __init__(self, text):
        self.flags = []  # (flag as written, description, [(value, description)])
        self.verbs = {}
        self.more = []
        self.usage = re.search(r"^USAGE: (.*)$", text, re.M).group(1)
        section, headings = None, ("OPTIONS:", "SUBCOMMANDS:", "Generic Options:",
                                   "Options:")
        for line in text.splitlines():
            if line in headings:
                section = line
            elif section == "more" or (section in ("Options:", "Generic Options:")
                                       and line and not line.startswith("  ")):
                section = "more"
                self.more.append(line)
            elif section == "SUBCOMMANDS:" and (found := self.SUBCOMMAND.fullmatch(line)):
                self.verbs[found[1]] = found[2]
            elif found := self.FLAG.fullmatch(line):
                self.flags.append((found[1], found[2], []))
            elif (found := self.VALUE.fullmatch(line)) and self.flags:
                self.flags[-1][2].append((found[1], found[2] or ""))

    def paragraphs(self):
        """The text after the flags: (heading or None, lines) each."""
        heading, lines = None, []
        for line in self.more:
            if re.fullmatch(r"[A-Z ]+:", line):
                yield heading, lines
                heading, lines = line[:-1], []
            else:
                lines.append(line)
        yield heading, lines


def escape(text):
    text = text.replace("\\", r"\e").replace("-", r"\-")
    return r"\&" + text if text[:1] in (".", "'") else text


def manFlags(flags):
    for flag, description, values in flags:
        yield f".TP\n\\fB{escape(flag)}\\fR\n{escape(description)}"
        for value, meaning in values:
            yield f".RS\n.TP\n\\fB{escape(value)}\\fR\n{escape(meaning.strip())}\n.RE"


def manMore(help, level):
    for heading, lines in help.paragraphs():
        if heading:
            yield f".{level} {heading}"
        if any(lines):
            yield ".nf\n" + "\n".join(escape(line) for line in lines).strip("\n") + "\n.fi"


def manPage(version, top, verbs):
    yield f'.TH KVC 1 "" "kvc {version}" "User Commands"'
    yield (".SH NAME\nkvc \\- compile a description of a KV cache into its kernels, and "
           "check, run and measure them")
    yield ".SH SYNOPSIS"
    for verb in verbs.values():
        yield f".B {escape(verb.usage)}\n.br"
    for name, verb in verbs.items():
        yield f".SH KVC {name.upper()}\n{escape(top.verbs[name])}."
        yield from manFlags(verb.flags)
        yield ".PP"
        yield from manMore(verb, "SS")
    yield from manMore(top, "SH")
    yield ".SH SEE ALSO\nThe spec language and its schema are installed beside this page under share/kvc."


def completion(top, verbs):
    yield "# bash completion of kvc, made from `kvc --help`."
    yield "_kvc() {"
    yield '  local word=${COMP_WORDS[COMP_CWORD]} verb=${COMP_WORDS[1]} flag='
    yield "  COMPREPLY=()"
    yield "  if ((COMP_CWORD == 1)); then"
    yield f'    COMPREPLY=($(compgen -W "{" ".join(verbs)} help --help --version" -- "$word"))'
    yield "    return"
    yield "  fi"
    yield "  # Readline breaks words at `=`: the flag stands one or two words before."
    yield "  if [[ $word == = ]]; then"
    yield "    flag=${COMP_WORDS[COMP_CWORD - 1]} word="
    yield "  elif [[ ${COMP_WORDS[COMP_CWORD - 1]} == = ]]; then"
    yield "    flag=${COMP_WORDS[COMP_CWORD - 2]}"
    yield "  fi"
    yield "  if [[ -n $flag ]]; then"
    yield '    case "$verb $flag" in'
    for name, verb in verbs.items():
        for flag, _, values in verb.flags:
            if values:
                words = " ".join(value for value, _ in values)
                yield (f'    "{name} {flag.split("=")[0]}") COMPREPLY=($(compgen -W '
                       f'"{words}" -- "$word")) ;;')
    yield '    *) COMPREPLY=($(compgen -f -- "$word")) ;;'
    yield "    esac"
    yield "    return"
    yield "  fi"
    yield "  if [[ $word == -* ]]; then"
    yield "    case $verb in"
    for name, verb in verbs.items():
        words = " ".join(re.sub(r"(=).*| .*", r"\1", flag) for flag, _, _ in verb.flags)
        yield f'    {name}) COMPREPLY=($(compgen -W "{words}" -- "$word")) ;;'
    yield "    esac"
    yield "    [[ ${COMPREPLY[0]-} == *= ]] && compopt -o nospace"
    yield "    return"
    yield "  fi"
    yield '  COMPREPLY=($(compgen -f -- "$word"))'
    yield "}"
    yield "complete -o filenames -F _kvc kvc"


def main(kvc, version, manFile, completionFile):
    top = Help(helpOf(kvc))
    verbs = {name: Help(helpOf(kvc, name)) for name in top.verbs}
    for path, lines in ((manFile, manPage(version, top, verbs)),
                        (completionFile, completion(top, verbs))):
        with open(path, "w") as out:
            out.write("\n".join(lines) + "\n")


main(*sys.argv[1:])
