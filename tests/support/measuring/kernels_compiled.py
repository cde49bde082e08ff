"""Compiles every kernel for a Hopper GPU, which no GPU is needed for, and prints a line of JSON for each.

Run as a process of its own: Triton compiles nothing where TRITON_INTERPRET is set.
"""

import json
import re
import sys
from pathlib import Path

WHOLE = {"values": "*fp32", "rows": "i32", "size": "i32"}
STEPS = {"codes": "*i8", "scales": "*bf16", "owners": "*i32", "table": "*i64", "rows": "i32", "size": "i32"}
PRUNED = {"seed": "*fp32", "bits": "*u8", "kept": "*fp32", "starts": "*i64", "scales": "*bf16", "owners": "*i32"}
SIZES = {"table": "*i64", "members": "i32", "marked": "i32", "values_kept": "i32", "scaled": "i32"}
ENDS = {"given": "*fp32", "out": "*fp32"}
ODD = {"rows", "members", "scaled", "values_kept"}
"""Arguments that need not be multiples of 16, as Triton's compiler is told of the others."""


def main() -> None:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from objectives.merging.members import kernel

    height, width = kernel.TILE
    cases = {
        "whole float32": (kernel._whole, WHOLE, {"BLOCK": kernel.BLOCK_BYTES // 4}),
        "whole bfloat16": (kernel._whole, WHOLE | {"values": "*bf16"}, {"BLOCK": kernel.BLOCK_BYTES // 2}),
        "steps": (kernel._steps, STEPS | {"scaled": "i32"}, {"ALIGNED": 16, "HEIGHT": height, "WIDTH": width}),
        "pruned float32": (kernel._pruned, PRUNED | SIZES, {"SCALED": False, "MARKS": kernel.MARKS}),
        "pruned int8": (kernel._pruned, PRUNED | SIZES | {"kept": "*i8"}, {"SCALED": True, "MARKS": kernel.MARKS}),
    }
    for name, (function, types, constants) in cases.items():
        for pull in (False, True):
            given, fixed = types | ENDS, constants | {"PULL": pull}
            signature = {one: given.get(one, "constexpr") for one in function.arg_names}
            places = {one: (number,) for number, one in enumerate(function.arg_names)}
            divisible = {places[one]: [["tt.divisibility", 16]] for one in given if one not in ODD}
            source = ASTSource(function, signature, {places[one]: value for one, value in fixed.items()}, divisible)
            made = compile(source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": True})
            wide = len(re.findall(r"ld\.global[.\w]*\.v4\.b32", made.asm["ptx"]))
            spilled = len(re.findall(r"(?:st|ld)\.local", made.asm["ptx"]))
            print(json.dumps({"kernel": f"{name}{' pull' * pull}", "wide_loads": wide, "spilled": spilled}))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[3]))
    main()
