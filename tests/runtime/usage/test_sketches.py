import random

from runtime.usage.batch import SKETCH_STEP, merged, stored_pairs, summed


def test_sketches_that_were_summed_before_add_up_to_the_same() -> None:
    draw = random.Random(1)  # noqa: S311
    keys = [number * SKETCH_STEP + bucket for number in range(4) for bucket in range(-40, 40)]
    cells = [
        stored_pairs({key: draw.randint(1, 9) for key in draw.sample(keys, 30)}) for _ in range(250)
    ]
    part = [summed(cells[:100]), *cells[100:]]
    assert list(merged(part, {})) == list(merged(cells, {}))
    assert list(merged([summed([b""])], {})) == list(merged([b""], {}))
