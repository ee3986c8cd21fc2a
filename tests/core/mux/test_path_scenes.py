"""The estimate of the path where ends, middle and machine do not run all the time."""

from __future__ import annotations

import pytest

from tests.core.mux.path_scenes import OPEN, SCENES, play, random_scene
from tests.core.mux.path_simulator import Scene


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_a_path_is_filled_with_little_queue(scene: Scene) -> None:
    played = play(scene)
    assert played.fill >= scene.fill, str(played)
    assert played.queue <= 0.010, str(played)
    if scene.fill > OPEN:
        assert played.outcome.late <= scene.gap + 0.030, str(played)


@pytest.mark.parametrize("number", range(6))
def test_a_random_path_is_used_well(number: int) -> None:
    played = play(random_scene(number))
    assert played.fill >= 0.5, str(played)
    assert played.queue <= 0.030, str(played)
