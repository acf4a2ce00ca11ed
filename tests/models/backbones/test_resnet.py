import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dermfuse.models import count_parameters
from dermfuse.models.backbones.resnet import (
    PreActivationUnit,
    ResNet18,
    ShiftBatchNorm2d,
    convert_torchvision,
)


class Basic(nn.Module):
    """torchvision's block: two convolutions, each before its BatchNorm; the sum is rectified."""

    def __init__(self, c_in: int, c: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(c_in, c, 3, stride, 1, bias=False), nn.BatchNorm2d(c)
        self.conv2, self.bn2 = nn.Conv2d(c, c, 3, 1, 1, bias=False), nn.BatchNorm2d(c)
        self.downsample = nn.Sequential()
        if c_in != c:
            self.downsample.append(nn.Conv2d(c_in, c, 1, stride, bias=False))
            self.downsample.append(nn.BatchNorm2d(c))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.downsample(x))


class Torchvision(nn.Sequential):
    """torchvision's ResNet-18 in its names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        for index, (c_in, c, stride) in enumerate(
            ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)), start=1
        ):
            self.add_module(f"layer{index}", nn.Sequential(Basic(c_in, c, stride), Basic(c, c, 1)))
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias)

    def features(self, x: Tensor) -> list[Tensor]:
        maps = [F.relu(self.bn1(self.conv1(x)))]
        for layer in list(self)[2:]:
            maps.append(layer(maps[-1] if len(maps) > 1 else F.max_pool2d(maps[0], 3, 2, 1)))
        return maps

    def settle(self) -> "Torchvision":
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
                module.momentum = None  # a plain average, so one batch settles it
        with torch.no_grad():
            self.train().features(noise())
        return self.eval()


def noise() -> Tensor:
    return torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def transplanted(network: Torchvision) -> ResNet18:
    result = ResNet18()
    faults = result.load_state_dict(convert_torchvision(network.state_dict()), strict=False)
    assert not faults.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in faults.missing_keys)
    return result.eval()


@pytest.mark.parametrize("exact", [True, False])
def test_the_transplant_is_exact_where_no_sum_is_negative_and_near_elsewhere(exact: bool) -> None:
    torch.manual_seed(0)
    network = Torchvision()
    for name, module in network.named_modules():
        if exact and name.endswith(".0.bn2"):
            nn.init.constant_(module.bias, 40.0)  # rectifying the first sum changes nothing
    network.settle()
    ours = transplanted(network)
    with torch.no_grad():
        expected, maps = network.features(noise()), ours.features(noise())
        trained = ours.train()(noise())  # with the batch's own mean and variance
    torch.testing.assert_close(maps[0], expected[0], rtol=1e-4, atol=1e-4)
    for theirs, own in zip(expected, maps, strict=True):
        cosine = F.cosine_similarity(own.flatten(), theirs.flatten(), dim=0)
        assert cosine > 0.7
        if exact:
            torch.testing.assert_close(own, theirs, rtol=1e-3, atol=1e-3)
    cosine = F.cosine_similarity(trained.flatten(), maps[-1].flatten(), dim=0)
    assert cosine > 0.75 or exact  # 0.63 with mean 0 and variance 1 in the passing norms


def test_a_state_with_a_missing_layer_is_refused() -> None:
    state = Torchvision().state_dict()
    del state["layer3.0.downsample.0.weight"]
    with pytest.raises(KeyError, match=r"layer3\.0\.downsample"):
        convert_torchvision(state)


def test_the_input_norm_has_a_shift_and_no_scale() -> None:
    norm = ShiftBatchNorm2d(3)
    assert count_parameters(norm, trainable=False) == 9
    nn.init.constant_(norm.shift, 2.0)
    result = norm(torch.randn(8, 3, 16, 16) * 5 + 1)
    torch.testing.assert_close(result.mean(dim=(0, 2, 3)), torch.full((3,), 2.0))
    torch.testing.assert_close(result.std(dim=(0, 2, 3)), torch.ones(3), atol=1e-3, rtol=0)


def test_a_shortcut_keeps_negative_sums_and_a_projection_takes_the_activated_input() -> None:
    unit = PreActivationUnit(4, 4, stride=1, project=False).eval()
    nn.init.zeros_(unit.conv2.weight)
    x = torch.randn(1, 4, 3, 3)
    activated, result = unit(x)
    torch.testing.assert_close(result, x)
    torch.testing.assert_close(activated, x.relu(), atol=1e-4, rtol=1e-4)
    unit = PreActivationUnit(1, 1, stride=2, project=True).eval()
    nn.init.zeros_(unit.conv2.weight)
    nn.init.constant_(unit.shortcut.weight, 3.0)  # type: ignore[union-attr]
    _, result = unit(torch.tensor([[2.0, 9.0], [9.0, 9.0]]).view(1, 1, 2, 2))
    torch.testing.assert_close(result, torch.full((1, 1, 1, 1), 6.0), atol=1e-4, rtol=0)
    assert not unit(torch.full((1, 1, 2, 2), -2.0))[1].any()
