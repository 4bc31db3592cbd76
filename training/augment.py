"""Changes to a window of faces that leave its speech as it was, so that the expert looks at the mouth and nothing else.

A generator is taught by the expert's gradients: what the expert takes for a mouth but no person does (stripes, a
bright line), the generator learns to draw. Shifted, recoloured and blurred windows make such shortcuts worthless.
"""

import librosa
import torch
import torch.nn.functional as F


def augment(
    faces: torch.Tensor,
    rng: torch.Generator,
    flip: float,
    shift_px: int,
    colour: float,
    blur: float,
    piece: tuple[int, int] = (0, 1),
) -> torch.Tensor:
    """faces (B, 3, T, H, W) in [0, 1] -> the same shape; all T frames of a window are changed alike.

    flip, blur: share of the windows that are mirrored, that lose their fine detail (half the resolution).
    shift_px: largest shift of the crop, with the edge repeated. colour: largest change of each channel's gain, and
    twice that of the brightness. rng: on the CPU, so that every device draws the same. All zero: unchanged.
    piece: (which, of how many) equal pieces of a larger batch these faces are; cut up or whole, a window is changed the
    same way.
    """
    which, pieces = piece
    batch, device = len(faces) * pieces, faces.device
    own = slice(which * len(faces), (which + 1) * len(faces))
    windows = faces.transpose(1, 2).contiguous()  # (B, T, 3, H, W): a frame in one piece of memory

    def chosen(share: float) -> torch.Tensor:
        return (torch.rand(batch, generator=rng)[own] < share).nonzero()[:, 0].to(device)

    def uniform(*shape: int) -> torch.Tensor:
        return (2 * torch.rand(*shape, generator=rng)[own] - 1).to(device)

    if flip:
        mirrored = chosen(flip)
        windows = windows.index_copy(0, mirrored, windows[mirrored].flip(-1))
    if shift_px:
        offsets = torch.randint(-shift_px, shift_px + 1, (batch, 2), generator=rng)[own].tolist()
        windows = shift(windows, offsets, shift_px)
    if blur:
        blurred = chosen(blur)
        windows = windows.index_copy(0, blurred, halve_detail(windows[blurred]))
    if colour:
        gain = 1 + colour * uniform(batch, 1, 3, 1, 1)
        windows = (windows * gain).add_(colour * uniform(batch, 1, 1, 1, 1) / 2).clamp_(0, 1)
    return windows.transpose(1, 2)


def rows_out_of_reach(height: int, shift_px: int) -> int:
    """Rows at the top of a face of `height` rows that its lower half, once augmented, has nothing from.

    Shifting brings rows of the upper half down, and blurring mixes a pair of rows with the next one.
    """
    return max(0, height // 2 - shift_px - 2) // 2 * 2  # even, as rows are blurred in pairs


def turn_and_zoom(
    mouths: torch.Tensor, rng: torch.Generator, degrees: float, zoom: float, piece: tuple[int, int] = (0, 1)
) -> torch.Tensor:
    """mouths (B, C, H, W), each turned about its middle by at most `degrees`, and its size changed by at most `zoom`.

    The edge is repeated; all channels, and so all frames of a window, change alike. rng, piece: as in `augment`.
    """
    which, pieces = piece
    batch, (height, width) = len(mouths), mouths.shape[-2:]
    drawn = 2 * torch.rand(batch * pieces, 2, generator=rng)[which * batch : (which + 1) * batch] - 1
    angle, scale = torch.deg2rad(degrees * drawn[:, 0]), 1 + zoom * drawn[:, 1]
    across, along = scale * angle.cos(), scale * angle.sin()
    zero = torch.zeros(batch)
    # Coordinates run from -1 to 1 on both sides, however long they are.
    rows = (
        torch.stack([across, -along * height / width, zero], 1),
        torch.stack([along * width / height, across, zero], 1),
    )
    grid = F.affine_grid(torch.stack(rows, 1).to(mouths.device), mouths.shape, align_corners=False)
    return F.grid_sample(mouths, grid, padding_mode="border", align_corners=False)


def augment_speech(
    mel: torch.Tensor, rng: torch.Generator, amount: float, reach: float, piece: tuple[int, int] = (0, 1)
) -> torch.Tensor:
    """mel (B, …, 80, 16), each of B louder or softer, and brighter or darker, by at most `amount` in units of the mel.

    One unit is 12.5 dB. It hides whose voice and which microphone it is, not what is said when. reach: the largest
    value of a mel, max_abs_value. rng, piece: as in `augment`.
    """
    which, pieces = piece
    drawn = 2 * torch.rand(len(mel) * pieces, 2, generator=rng)[which * len(mel) : (which + 1) * len(mel)] - 1
    level, tilt = (amount * drawn).to(mel.device).view(-1, 2, *[1] * (mel.dim() - 1)).unbind(dim=1)
    over_bands = torch.linspace(-1, 1, mel.shape[-2], device=mel.device)[:, None]
    return (mel + level + tilt * over_bands).clamp(-reach, reach)


def warp_voice(
    mel: torch.Tensor,
    rng: torch.Generator,
    amount: float,
    band_range: tuple[float, float],
    piece: tuple[int, int] = (0, 1),
) -> torch.Tensor:
    """mel (B, …, 80, 16), each of B as if all frequencies of its voice were higher or lower by up to a share `amount`.

    A shorter or longer vocal tract moves the formants so: other speakers for the same words (vocal tract length
    perturbation, Jaitly and Hinton 2013). band_range: hp.fmin and hp.fmax, in Hz. rng, piece: as in `augment`.
    """
    which, pieces = piece
    bands, own = mel.shape[-2], slice(which * len(mel), (which + 1) * len(mel))
    factors = 1 + amount * (2 * torch.rand(len(mel) * pieces, 1, generator=rng)[own].numpy() - 1)
    low, high = librosa.hz_to_mel(band_range)
    spacing = (high - low) / (bands + 1)
    heard_hz = librosa.mel_frequencies(bands + 2, fmin=band_range[0], fmax=band_range[1])[1:-1]
    # Where on the scale of bands each band's content comes from; beyond the ends, the band at the end.
    source = ((librosa.hz_to_mel(heard_hz / factors) - low) / spacing - 1).clip(0, bands - 1)
    source = torch.from_numpy(source).to(mel).view(len(mel), *[1] * (mel.dim() - 3), bands, 1)
    below = source.floor().clamp_max(bands - 2)
    lower = below.long().expand(mel.shape)
    return torch.lerp(mel.gather(-2, lower), mel.gather(-2, lower + 1), source - below)


def stretch_down(
    faces: torch.Tensor, rng: torch.Generator, share: float, piece: tuple[int, int] = (0, 1)
) -> torch.Tensor:
    """faces (B, 3, T, H, W) whose lowest rows, by chance up to `share` of the height, are cut off, the rest stretched.

    So the chin lies at another height, as with another crop; all T frames alike. rng, piece: as in `augment`.
    """
    which, pieces = piece
    batch, _, frames = faces.shape[:3]
    kept = 1 - share * torch.rand(batch * pieces, generator=rng)[which * batch : (which + 1) * batch].to(faces.device)
    to_source = torch.zeros(batch, 2, 3, device=faces.device)
    to_source[:, 0, 0], to_source[:, 1, 1], to_source[:, 1, 2] = 1, kept, kept - 1
    grid = F.affine_grid(to_source.repeat_interleave(frames, dim=0), (batch * frames, 3, *faces.shape[3:]), False)
    flat = faces.transpose(1, 2).flatten(0, 1)  # (B*T, 3, H, W)
    stretched = F.grid_sample(flat, grid, padding_mode="border", align_corners=False)
    return stretched.unflatten(0, (batch, frames)).transpose(1, 2)


def shift(windows: torch.Tensor, offsets: list[list[int]], reach: int) -> torch.Tensor:
    """windows (B, T, 3, H, W), each moved by its own (down, right) px of at most `reach`, its edge repeated."""
    height, width = windows.shape[-2:]
    padded = F.pad(windows.flatten(1, 2), (reach,) * 4, mode="replicate").view(
        *windows.shape[:3], height + 2 * reach, width + 2 * reach
    )
    moved = [
        window[..., reach - down : reach - down + height, reach - right : reach - right + width]
        for window, (down, right) in zip(padded, offsets, strict=True)
    ]
    return torch.stack(moved)


def halve_detail(windows: torch.Tensor) -> torch.Tensor:
    """windows (..., 3, H, W) as seen at half the resolution."""
    frames = windows.flatten(0, -4)
    coarse = F.interpolate(F.avg_pool2d(frames, 2), size=frames.shape[-2:], mode="bilinear")
    return coarse.view(windows.shape)
