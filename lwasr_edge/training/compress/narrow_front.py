"""Fewer channels in the convolutions of the front, in closed form from speech.

The second convolution is half of a small model's arithmetic, and its channels repeat each other. They go as units do
(`surgeon`): those of the first convolution by what the second makes of them, then those of the second by what the
linear layer makes of them, which is fitted to what the front gave before.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from lwasr_edge.training.compress.surgeon import damped, surgeon, with_constant
from lwasr_edge.training.data.batches import WaveformStore
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.conformer import MEL_CONTEXT, Subsampling

TAPS = 9  # of a 3x3 kernel
EVERY = 7  # of the places where the second convolution reads: prime to the bands, so that each of them is heard

Heard = list[tuple[Tensor, Tensor]]  # features (B, MEL_CONTEXT + 4 U, n_mels), which frames are no padding (B, U)


@torch.inference_mode()
def narrowed_front(model: AcousticModel, store: WaveformStore, n_channels: int, n_utterances: int = 128) -> Subsampling:
    """A front with fewer channels that does nearly what the model's does.

    Args:
        model: on the store's device.
        store: training audio.
        n_channels: of both convolutions, up to the model's.
        n_utterances: how many to hear, spread over the store; all if there are fewer.
    """
    whole = model.encoder.subsampling
    front = copy.deepcopy(whole)
    heard = features_of(model, store, n_utterances)
    narrow_first(front, heard, n_channels)
    narrow_second(front, whole, heard, n_channels)
    narrowed = Subsampling(model.config.frontend.n_mels, n_channels, model.config.encoder.d_model).to(store.device)
    narrowed.load_state_dict(front.state_dict())
    return narrowed


def features_of(model: AcousticModel, store: WaveformStore, n_utterances: int) -> Heard:
    """What the front is given of some utterances."""
    heard = []
    for indices in store.spread(n_utterances):
        batch = store.batch(indices)
        features, lengths = model.features(batch.waveform, batch.n_samples)
        is_heard = torch.arange(features.shape[1] // 4, device=lengths.device) < lengths[:, None]
        heard.append((F.pad(features, (0, 0, MEL_CONTEXT, 0)), is_heard))
    return heard


def narrow_first(front: Subsampling, heard: Heard, n_channels: int) -> None:
    """Leave the first convolution the channels that the second misses most, each of its outputs as loud as later."""
    first, second = front.conv1, front.conv2
    moments = torch.zeros(1, dtype=torch.float64, device=second.weight.device)
    for features, is_heard in tqdm(heard, desc="first convolution", unit="batch", mininterval=1, leave=False):
        values = F.unfold(F.relu(first(features.unsqueeze(1))), 3, padding=(0, 1), stride=2)  # (B, 9 C, U bands)
        read = values.unflatten(2, (is_heard.shape[1], -1)).permute(0, 2, 3, 1)[is_heard].flatten(0, 1)[::EVERY]
        read = with_constant(read)
        moments = moments + read.T @ read
    by_channel = front.linear.weight.unflatten(1, (second.out_channels, -1))
    loudness = torch.linalg.vector_norm(by_channel, dim=(0, 2))[:, None].clamp(min=1e-9)
    columns = torch.cat([second.weight.flatten(1), second.get_parameter("bias")[:, None]], dim=1) * loudness
    channels, fitted = surgeon(columns.double(), moments / moments[-1, -1], n_channels, TAPS)
    fitted = fitted.float() / loudness
    keep_outputs(first, channels)
    second.weight = nn.Parameter(fitted[:, :-1].unflatten(1, (-1, 3, 3))[:, channels])
    second.bias = nn.Parameter(fitted[:, -1])


def narrow_second(front: Subsampling, whole: Subsampling, heard: Heard, n_channels: int) -> None:
    """Leave the second convolution the channels with which the linear layer comes nearest to the whole front."""
    second, linear = front.conv2, front.linear
    moments = torch.zeros(1, dtype=torch.float64, device=second.weight.device)
    products = moments
    for features, is_heard in tqdm(heard, desc="second convolution", unit="batch", mininterval=1, leave=False):
        read = with_constant(front.convolve(features)[is_heard])
        moments = moments + read.T @ read
        products = products + read.T @ whole(features)[is_heard].double()
    n_frames = moments[-1, -1].clone()
    moments, products = moments / n_frames, products / n_frames
    columns = torch.linalg.solve(damped(moments), products).T
    width = linear.in_features // second.out_channels  # values of a channel in a frame
    channels, fitted = surgeon(columns, moments, n_channels, width)
    keep_outputs(second, channels)
    by_channel = fitted[:, :-1].unflatten(1, (-1, width))
    linear.weight = nn.Parameter(by_channel[:, channels].flatten(1).float())
    linear.bias = nn.Parameter(fitted[:, -1].float())


def keep_outputs(convolution: nn.Conv2d, channels: Tensor) -> None:
    """Leave a convolution some of its outputs."""
    for name in ("weight", "bias"):
        setattr(convolution, name, nn.Parameter(convolution.get_parameter(name)[channels]))
