"""Flow matching against the formulas written out."""

import pytest
import torch

from mimix_ray.backbone import flow


@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0])
def test_shift_moves_times_to_noise_and_keeps_the_ends(shift: float) -> None:
    u = torch.linspace(0, 1, 11)
    s = flow.flow_time(u, "uniform", shift)
    assert s[0] == 0 and s[-1] == 1 and (s.diff() > 0).all()
    torch.testing.assert_close(s[5], torch.tensor(shift * 0.5 / (1 + (shift - 1) * 0.5)))


def test_logit_normal_is_the_logistic_of_a_normal() -> None:
    s = flow.flow_time(torch.tensor([-30.0, 0.0, 30.0]), "logit_normal", 1.0)
    torch.testing.assert_close(s, torch.tensor([0.0, 0.5, 1.0]))


def test_path_ends_in_data_and_noise() -> None:
    x0, noise = torch.randn(2, 1, 1, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(flow.mix(x0, noise, torch.zeros(1)), x0)
    assert torch.equal(flow.mix(x0, noise, torch.ones(1)), noise)


def test_the_velocity_that_leads_along_the_path_has_no_loss() -> None:
    x0, noise = torch.randn(2, 3, 4, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    s = torch.tensor([0.1, 0.5, 0.9])
    step = 1e-3
    velocity = (flow.mix(x0, noise, s + step) - flow.mix(x0, noise, s)) / step
    assert (flow.losses(velocity, x0, noise) < 1e-5).all()
    assert (flow.losses(-velocity, x0, noise) > 1).all()
