import numpy as np
import pytest

from ml.models import gan
from ml.models.dcgan import DCGAN


@pytest.mark.parametrize("size", [32, 64])
def test_it_learns_draws_and_goes_on_from_its_state(size: int) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (5, size + 4, size + 4, 3), np.uint8)
    model = DCGAN(crops, size, seed=0, width=4)
    losses = [model.train(step) for step in range(2)]
    state = {name: array.copy() for name, array in model.state().items()}
    ahead = [model.train(step) for step in range(2, 4)]
    model.restore(state)
    assert [model.train(step) for step in range(2, 4)] == ahead
    assert losses[0] != losses[1]
    assert gan.draw(model.averaged, gan.latents(3, seed=0)).shape == (3, size, size, 3)
