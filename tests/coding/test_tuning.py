import re
from pathlib import Path

import pytest

from dcomp.coding import tuning

ROOM = Path(tuning.__file__).parent
CONSTANTS = [name for name in vars(tuning) if name.isupper()]


@pytest.mark.parametrize("name", CONSTANTS)
def test_every_tuned_constant_is_used(name):
    assert any(re.search(rf"\btuning\.{name}\b", path.read_text()) for path in ROOM.glob("*.py"))
