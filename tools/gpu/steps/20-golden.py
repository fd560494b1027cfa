"""Conformance: the same calls as on an emulated GPU when the kit was built."""
import golden


def step(context):
    for model in context.models("small") + context.models("random"):
        for artifact in model["artifacts"]:
            for vector in artifact.get("golden", []):
                context.row(vector["file"], lambda: one(
                    context, artifact, vector))


def one(context, artifact, vector):
    program = context.program(artifact)
    expected = golden.read(context.kit / vector["file"])
    found = golden.compute(context.device(), program, vector["seed"])
    program.close()
    return golden.compare(program, expected, found)
