import numpy as np
import pytest
import torch

from learning import arrays
from synthesis.transformer import LatentTransformer
from synthesis.video_conditions import SCALARS
from synthesis.video_transformer import VideoTransformer, inflate
from synthesis.video_unet import VideoUNet

N, FRAMES, GRID = 2, 5, 4


@pytest.fixture(params=[VideoTransformer, VideoUNet])
def network(request) -> VideoTransformer | VideoUNet:
    dice = torch.Generator().manual_seed(1)
    made = request.param(width=16, depth=2, heads=2, views=4, grid=GRID)
    for parameter in made.parameters():  # zero-initialised outputs would hide every mistake
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=dice)
    return made.eval()


def asked(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    dice = torch.Generator().manual_seed(2)
    told = {
        "z": torch.randn(N, FRAMES, 4, GRID, GRID, generator=dice),
        "t": torch.tensor([0.3, 0.8]),
        "phase": torch.rand(N, FRAMES, generator=dice),
        "real": torch.ones(N, FRAMES, dtype=torch.bool),
        "masks": torch.randint(0, 4, (N, FRAMES, 8 * GRID, 8 * GRID), generator=dice).to(torch.uint8),
        "view": torch.tensor([0, 1]),
        "first": torch.randn(N, 4, GRID, GRID, generator=dice),
        "first_phase": torch.rand(N, generator=dice),
        "lvef": torch.tensor([30.0, 60.0]),
        "heart_rate": torch.tensor([60.0, 90.0]),
        "frame_rate": torch.tensor([30.0, 50.0]),
    }
    return told | changes


def test_a_whole_turn_changes_nothing_and_half_a_turn_does(network):
    told = asked()
    still, turned, half = (network(**asked(phase=told["phase"] + by)) for by in (0.0, 1.0, 0.5))
    torch.testing.assert_close(still, turned, atol=1e-4, rtol=1e-4)
    assert (still - half).abs().max() > 1e-2


def test_there_is_no_first_frame(network):
    told, order = asked(), torch.tensor([3, 0, 4, 1, 2])
    moved = asked(**{k: told[k][:, order] for k in ("z", "phase", "masks")})
    torch.testing.assert_close(network(**moved), network(**told)[:, order], atol=1e-5, rtol=1e-4)


def test_frames_see_each_other_but_never_padding(network):
    told = asked()
    real = told["real"].clone()
    real[:, 3:] = False
    z = told["z"].clone()
    z[:, 3:] = 50
    shown = network(**asked(real=real))[:, :3]
    torch.testing.assert_close(network(**asked(real=real, z=z))[:, :3], shown)
    assert (network(**asked(z=z))[:, :3] - shown).abs().max() > 1e-3


def test_a_clip_does_not_see_the_others(network):
    told = asked()
    alone = network(**{k: v[:1] for k, v in told.items()})
    torch.testing.assert_close(network(**told)[:1], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["masks", "view", "first", "first_phase", *SCALARS])
def test_every_condition_matters(network, name):
    told = asked()
    changed = {"masks": 3 - told["masks"], "view": 1 - told["view"]}.get(name, told[name] * 1.3)
    assert (network(**asked(**{name: changed})) - network(**told)).abs().max() > 1e-4


@pytest.mark.parametrize("name", SCALARS)
def test_the_null_of_a_number_is_learned_and_used(network, name):
    unknown = asked(**{name: torch.full((N,), torch.nan)})
    network(**unknown).square().sum().backward()
    gradient = network.known[name].weight.grad
    assert gradient is not None
    assert gradient[0].abs().sum() > 0
    assert gradient[1].abs().sum() == 0


def test_the_nulls_of_frame_phase_view_and_mask_are_learned_and_used(network):
    unknown = asked(
        first=torch.full((N, 4, GRID, GRID), torch.nan),
        phase=torch.full((N, FRAMES), torch.nan),
        view=torch.full((N,), -1),
        masks=torch.full((N, FRAMES, 8 * GRID, 8 * GRID), 255, dtype=torch.uint8),
    )
    answer = network(**unknown)
    assert answer.isfinite().all()
    answer.square().sum().backward()
    for null in (network.first_known, network.phase_known, network.view, network.mask_known):
        assert null.weight.grad[0].abs().sum() > 0
        assert null.weight.grad[1:].abs().sum() == 0


def test_a_frame_nobody_outlined_has_the_null_mask_whatever_the_others_have(network):
    told = asked()
    masks = told["masks"].clone()
    masks[:, 2] = 255
    network(**asked(masks=masks)).square().sum().backward()
    assert (network.mask_known.weight.grad.abs().sum(1) > 0).all()


def test_an_inflated_network_draws_each_frame_as_the_image_network_does():
    dice = torch.Generator().manual_seed(3)
    image = LatentTransformer(width=16, depth=2, heads=2, views=4, descriptors=3).eval()
    for parameter in image.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=dice)
    video = VideoTransformer(width=16, depth=2, heads=2, views=4, grid=8).eval()
    arrays.load_state(video, inflate(arrays.state(image), video))
    z, t = torch.randn(1, 3, 4, 8, 8, generator=dice), torch.tensor([0.4])
    masks = torch.randint(0, 4, (1, 3, 64, 64), generator=dice).to(torch.uint8)
    nothing = torch.full((1,), torch.nan)
    moving = video(
        z, t, phase=torch.tensor([[0.0, 0.3, 0.7]]), real=torch.ones(1, 3, dtype=torch.bool), masks=masks,
        view=torch.tensor([1]), first=torch.full((1, 4, 8, 8), torch.nan), first_phase=nothing, lvef=nothing,
        heart_rate=nothing, frame_rate=nothing, at_sites=True,
    )  # fmt: skip
    still = image(
        z[0], t.expand(3), view=torch.ones(3).long(), phase=torch.full((3,), -1), masks=masks[0], at_sites=True
    )
    torch.testing.assert_close(moving[0], still, atol=1e-5, rtol=1e-4)


def test_places_are_interpolated_to_a_finer_grid():
    image = arrays.state(LatentTransformer(width=16, depth=1, heads=2, views=4, descriptors=3))
    video = VideoTransformer(width=16, depth=1, heads=2, views=4, grid=14)
    assert inflate(image, video)["position.weight"].shape == (49, 16)
    image["position.weight"] = np.ones((16, 16), np.float32)
    np.testing.assert_allclose(inflate(image, video)["position.weight"], 1, atol=1e-5)


def test_a_grid_of_half_patches_is_refused():
    with pytest.raises(ValueError, match="grid=5"):
        VideoTransformer(width=16, depth=1, heads=2, views=4, grid=5)


def test_a_u_net_needs_a_grid_that_halves():
    with pytest.raises(ValueError, match="grid=5"):
        VideoUNet(width=16, depth=1, heads=2, views=4, grid=5)
