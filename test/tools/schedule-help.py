"""schedule-help.py HELP CPU_ERROR GPU_ERROR RULE_ERROR: what `kvc help schedule`
explains is what the compiler says in its errors."""
import re
import sys

text, cpu, gpu, rule = (open(path, encoding="utf-8").read() for path in sys.argv[1:])
_, *sections = re.split(r"^(CPU|GPU|EXAMPLES)$", text, flags=re.M)
sections = dict(zip(sections[::2], sections[1::2]))
for name, error in (("CPU", cpu), ("GPU", gpu)):
    known = re.split(", | and ", re.search(r"it has (.*?) \[E-", error)[1])
    explained = re.findall(r"^  ([a-zA-Z]+) {2,}\S", sections[name], re.M)
    assert known == explained, (known, explained)
words = re.search(r"`: (.*?); found", rule)[1]
assert words in " ".join(sections["GPU"].split()), words
