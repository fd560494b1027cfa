"""Random batches against float64, with poison in every byte nobody owns; the
same bits run to run, page to page and alone; and planted bugs that must be
found."""
import cases
import reference


def step(context):
    models = context.models("small") + context.models("random")
    if not models:
        raise RuntimeError("the kit has no small models")
    context.row("reference", lambda: agree(context, models[0]))
    for fault in cases.FAULTS[:3]:
        context.row(f"planted {fault}", lambda: planted(context, models[0],
                                                        fault))
    emulated = not context.device_name.startswith("cuda")
    for seed in range(2 if emulated else 6):
        for model in models:
            for index, artifact in enumerate(model["artifacts"]):
                # Lengths that cross a split, now and then.
                longest = 150 if emulated or seed % 3 else 0
                context.row(f"{model['name']} {index} {seed}",
                            lambda: one(context, artifact, seed, longest), 5)


def one(context, artifact, seed, longest, fault=None):
    program = context.program(artifact)
    case = cases.Case(program, 0, seed, sequences=3 if longest else 4,
                      longest=longest)
    row = cases.check(context.device(), case, fault=fault)
    program.close()
    return row


def planted(context, model, fault):
    row = one(context, model["artifacts"][0], 7, 150, fault)
    found = row["findings"]
    return {"found": found[:1],
            "findings": [] if found else [f"the planted `{fault}` was not "
                                          "found"]}


def agree(context, model):
    """Both references on the same problem."""
    if not reference.torch:
        return {"findings": [], "note": "no torch: plain loops judge"}
    program = context.program(model["artifacts"][0])
    case = cases.Case(program, 0, 3, sequences=2, longest=60)
    seen = []
    kept = reference.expect
    reference.expect = lambda p: seen.append(p) or kept(p)
    try:
        cases.check(context.device(), case, poisons=["nan"])
    finally:
        reference.expect = kept
    worst = 0
    for problem in seen:
        a, b = reference.expect_torch(problem), reference.expect_loops(problem)
        for rows in zip(a.o, b.o):
            worst = max([worst] + [abs(x - y) for x, y in zip(*rows)])
    program.close()
    return {"worst": worst, "problems": len(seen), "findings":
            [] if worst < 1e-9 else ["the two references disagree"]}
