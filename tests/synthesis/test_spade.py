"""The mask speaks in the middle and in the decoder alone, as a map and not as a picture."""

import pytest
import torch

from synthesis.spade import Spade, SpadeUNet


@pytest.fixture
def network():
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        built = SpadeUNet(channels=1, width=8, multiples=(1, 2), hidden=8, views=4)
        for parameter in built.parameters():  # what starts at zero would hide it
            parameter.data = torch.randn_like(parameter) * 0.1
    return built.eval()


def _asked(network, masks, **more):
    g = torch.Generator().manual_seed(1)
    n = len(masks)
    return network(
        torch.randn(n, 1, 16, 16, generator=g), torch.full((n,), 0.5), view=torch.zeros(n, dtype=torch.long),
        phase=torch.ones(n, dtype=torch.long), masks=masks, **more,
    )  # fmt: skip


def _masks(n=2, size=32):
    return torch.randint(0, 4, (n, size, size), generator=torch.Generator().manual_seed(2)).to(torch.uint8)


def test_spade_is_its_equation():
    spade = Spade(16, 4)
    g = torch.Generator().manual_seed(0)
    h, told = torch.randn(2, 16, 5, 5, generator=g), torch.randn(2, 32, 5, 5, generator=g)
    groups = h.view(2, 2, 8 * 25)
    plain = (groups - groups.mean(2, keepdim=True)) / (groups.var(2, unbiased=False, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(spade(h, told), plain.view_as(h) * (1 + told[:, :16]) + told[:, 16:])
    assert not list(spade.norm.parameters())


def test_the_mask_moves_the_output_only_through_the_middle_and_the_decoder(network):
    seen = {}
    handles = [
        layer.register_forward_hook(lambda _, __, out, name=name: seen.setdefault(name, []).append(out))
        for name, layer in network.named_modules()
        if name in ("enter", "middle", *(f"{part}.{k}" for part in ("down", "halve", "up") for k in range(2)))
    ]
    first, second = _asked(network, _masks()), _asked(network, torch.zeros_like(_masks()))
    for handle in handles:
        handle.remove()
    assert not torch.equal(first, second)
    unmoved = {name for name, pair in seen.items() if torch.equal(*pair)}
    assert unmoved == {"enter", "down.0", "down.1", "halve.0"}
    assert seen.keys() - unmoved == {"middle", "up.0", "up.1"}


def test_masks_are_made_small_without_mixing_structures(network):
    shown = []
    for block in (network.middle, *network.up):
        block.spade1.see.register_forward_pre_hook(lambda _, args: shown.append(args[0]))
    network.structures_of(_masks(), 16, 16)
    assert [tuple(s.shape[-2:]) for s in shown] == [(8, 8), (8, 8), (16, 16)]
    for structures in shown:
        assert set(structures.unique().tolist()) <= {0.0, 1.0}
        assert structures.sum(1).max() <= 1


def test_what_a_mask_says_may_be_asked_once_for_many_calls(network):
    masks = _masks()
    drawn = network.structures_of(masks, 16, 16)
    torch.testing.assert_close(_asked(network, masks, drawn=drawn), _asked(network, masks))


def test_no_mask_is_not_an_empty_mask(network):
    nobody = torch.full_like(_masks(), 255)
    assert not torch.equal(_asked(network, nobody), _asked(network, torch.zeros_like(nobody)))
