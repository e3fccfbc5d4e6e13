"""Random brightness, contrast, saturation and hue, in random order."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.augmentations.grayscale import luminance
from baselines.augmentations.operation import Operation, chance, check_number, per_image, uniform

_CONTRAST, _SATURATION, _HUE = 1, 2, 3  # brightness is 0


class ColorJitter(Operation):
    """Colour jitter, Chen et al. (SimCLR) 2020, https://arxiv.org/abs/2002.05709.

    Follows torchvision's `ColorJitter` inside `RandomApply`; order and factors are drawn for every image. In
    grey images only brightness and contrast change anything.

    Args:
        brightness: its factor is drawn from [max(0, 1 - brightness), 1 + brightness]; in [0, 10].
        contrast: likewise.
        saturation: likewise.
        hue: the hue is turned by up to this part of the colour circle, either way; in [0, 0.5].
        probability: share of the images that are changed, in [0, 1].
    """

    kernel = "color_jitter"

    def __init__(
        self,
        *,
        brightness: float = 0.4,
        contrast: float = 0.4,
        saturation: float = 0.4,
        hue: float = 0.1,
        probability: float = 0.8,
    ):
        check_number("brightness", brightness, 0, 10)
        check_number("contrast", contrast, 0, 10)
        check_number("saturation", saturation, 0, 10)
        check_number("hue", hue, 0, 0.5)
        check_number("probability", probability, 0, 1)
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.hue = hue
        self.probability = probability

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Draws factors f32 [B, 3] (brightness, contrast, saturation), turn f32 [B], order i64 [B, 4].

        The order lists 0 brightness, 1 contrast, 2 saturation, 3 hue, first to last. Images that stay as they
        are have factors of 1 and a turn of 0.
        """
        strengths = (self.brightness, self.contrast, self.saturation)
        factors = torch.stack([uniform(images, rng, max(0.0, 1 - strength), 1 + strength) for strength in strengths], 1)
        turn = uniform(images, rng, -self.hue, self.hue)
        order = torch.rand(len(images), 4, generator=rng, device=images.device).argsort(1)
        chosen = chance(images, rng, self.probability)
        return {
            "factors": torch.where(chosen[:, None], factors, 1.0),
            "turn": torch.where(chosen, turn, 0.0),
            "order": order,
        }

    def apply(self, images: Tensor, factors: Tensor, turn: Tensor, order: Tensor) -> Tensor:
        """Changes each image in its order.

        Hue comes at a different place in each image. So that it is computed once, every place is visited
        twice, before and after it, with a factor of 1 (which changes no pixel) where it is not the place's turn.
        """
        neutral = torch.ones_like(turn)[:, None]
        factor_at = torch.cat((factors, neutral), 1).gather(1, order)
        hue_place = (order == _HUE).int().argmax(1)
        for place in range(3):
            images = _blend(images, order[:, place], torch.where(place < hue_place, factor_at[:, place], 1.0))
        images = turn_hue(images, turn)
        for place in range(1, 4):
            images = _blend(images, order[:, place], torch.where(place > hue_place, factor_at[:, place], 1.0))
        return images


def _blend(images: Tensor, operation: Tensor, factor: Tensor) -> Tensor:
    """images x factor + (1 - factor) x black, mean grey or grey, whichever the operation blends with; in place."""
    grey = luminance(images)
    reference = grey * per_image(operation == _SATURATION)
    reference += per_image(grey.mean((1, 2, 3)) * (operation == _CONTRAST))
    reference *= per_image(1 - factor)
    return images.mul_(per_image(factor)).add_(reference).clamp_(0, 1)


def turn_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Turns the hue of each image (in HSV) by a part of the colour circle.

    Args:
        images: f32 [B, C, H, W] in [0, 1].
        turn: f32 [B] in [-0.5, 0.5]; 0 changes no pixel.

    Returns:
        f32 [B, C, H, W] in [0, 1]; grey images themselves.
    """
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    low, high = torch.aminmax(images, dim=1)
    span = high - low
    divisor = torch.where(span > 0, span, 1.0)
    # Hue in sixths of the circle: red 0, green 2, blue 4.
    hue = torch.where(
        red == high,
        (green - blue) / divisor,
        torch.where(green == high, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )
    hue = (hue + 6 * turn[:, None, None]).remainder(6)
    red_share = ((hue - 3).abs() - 1).clamp_(0, 1)
    green_share = (2 - (hue - 2).abs()).clamp_(0, 1)
    blue_share = (2 - (hue - 4).abs()).clamp_(0, 1)
    turned = low[:, None] + span[:, None] * torch.stack((red_share, green_share, blue_share), 1)
    return torch.where(per_image(turn == 0), images, turned)
