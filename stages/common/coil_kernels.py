"""Arithmetic between coils, image and k-space on the CPU, compiled by Numba.

All arrays are complex, (N, coils, pixels) or (N, pixels), pixels running over rows of
columns. A gradient is dL/d(real) + i dL/d(imaginary), as PyTorch has it.
"""

import numpy as np

from stages.common.compiled import compiled


@compiled
def combine(images, maps, out):
    """Coil images to one image, sum of image * conj(map): (N, P), written."""
    for n in range(images.shape[0]):
        written = out[n]
        written[:] = 0
        for k in range(images.shape[1]):
            image, map_ = images[n, k], maps[n, k]
            for p in range(written.size):
                written[p] += image[p] * np.conj(map_[p])


@compiled
def combine_backward(grad, images, maps, grad_images, grad_maps):
    """Gradients of `combine`, both written."""
    for n in range(images.shape[0]):
        slant = grad[n]
        for k in range(images.shape[1]):
            image, map_ = images[n, k], maps[n, k]
            to_image, to_map = grad_images[n, k], grad_maps[n, k]
            for p in range(slant.size):
                to_image[p] = slant[p] * map_[p]
                to_map[p] = np.conj(slant[p]) * image[p]


@compiled
def expand(image, maps, out):
    """One image to coil images with the sign turned, -image * map, written."""
    for n in range(maps.shape[0]):
        row = image[n]
        for k in range(maps.shape[1]):
            map_, written = maps[n, k], out[n, k]
            for p in range(row.size):
                written[p] = -row[p] * map_[p]


@compiled
def expand_backward(grad, image, maps, grad_image, grad_maps):
    """Gradients of `expand`, both written."""
    for n in range(maps.shape[0]):
        row, to_image = image[n], grad_image[n]
        to_image[:] = 0
        for k in range(maps.shape[1]):
            slant, map_, to_map = grad[n, k], maps[n, k], grad_maps[n, k]
            for p in range(row.size):
                to_image[p] -= slant[p] * np.conj(map_[p])
                to_map[p] = -slant[p] * np.conj(row[p])


@compiled
def pull(kspace, reference, sampled, weight, correction):
    """Soft data consistency: add k + weight * sampled * (reference - k) in place.

    Args:
        kspace: (N, coils, H, W), the current estimate.
        reference: the same shape, what was measured.
        sampled: (N, W) real, 1 where a column was sampled.
        weight: (N,) of the measurement.
        correction: (N, coils, H, W), added to.
    """
    slices, coils, height, width = kspace.shape
    for n in range(slices):
        share = sampled[n] * weight[n]
        for k in range(coils):
            for h in range(height):
                row, known = kspace[n, k, h], reference[n, k, h]
                written = correction[n, k, h]
                for w in range(width):
                    written[w] += row[w] + share[w] * (known[w] - row[w])


@compiled
def pull_backward(grad, kspace, reference, sampled, weight, grad_kspace, grad_weight):
    """Gradients of `pull` by the k-space and by the weights, both written."""
    slices, coils, height, width = kspace.shape
    lanes = np.empty(width, sampled.dtype)
    for n in range(slices):
        keep = 1 - sampled[n] * weight[n]
        lanes[:] = 0
        for k in range(coils):
            for h in range(height):
                slant, written = grad[n, k, h], grad_kspace[n, k, h]
                row, known = kspace[n, k, h], reference[n, k, h]
                for w in range(width):
                    written[w] = slant[w] * keep[w]
                    lanes[w] += (np.conj(slant[w]) * (known[w] - row[w])).real
        total = 0.0
        for w in range(width):
            total += sampled[n, w] * lanes[w]
        grad_weight[n] = total


@compiled
def unit_energy(maps, out, inverse, tiny):
    """Scale maps to unit root sum of squares over coils.

    Args:
        maps: (N, coils, P).
        out: the same, written.
        inverse: (N, P) real, written: 1 / root of the energy, or of `tiny` at least.
        tiny: smallest energy to divide by: maps of zero stay zero.
    """
    for n in range(maps.shape[0]):
        scale = inverse[n]
        scale[:] = 0
        for k in range(maps.shape[1]):
            map_ = maps[n, k]
            for p in range(scale.size):
                scale[p] += map_[p].real * map_[p].real + map_[p].imag * map_[p].imag
        for p in range(scale.size):
            scale[p] = 1 / np.sqrt(max(scale[p], tiny))
        for k in range(maps.shape[1]):
            map_, written = maps[n, k], out[n, k]
            for p in range(scale.size):
                written[p] = map_[p] * scale[p]


@compiled
def unit_energy_backward(grad, out, inverse, tiny, grad_maps):
    """Gradient of `unit_energy`: what is along the maps changes nothing."""
    limit = 1 / np.sqrt(tiny)
    along = np.empty(inverse.shape[1], inverse.dtype)
    for n in range(out.shape[0]):
        scale = inverse[n]
        along[:] = 0
        for k in range(out.shape[1]):
            slant, map_ = grad[n, k], out[n, k]
            for p in range(scale.size):
                along[p] += (np.conj(map_[p]) * slant[p]).real
        for p in range(scale.size):
            along[p] = along[p] if scale[p] < limit else 0
        for k in range(out.shape[1]):
            slant, map_, written = grad[n, k], out[n, k], grad_maps[n, k]
            for p in range(scale.size):
                written[p] = (slant[p] - map_[p] * along[p]) * scale[p]


@compiled
def root_sum_of_squares(images, out, tiny):
    """(N, coils, P) -> magnitude (N, P) real, written; at least the root of `tiny`."""
    for n in range(images.shape[0]):
        written = out[n]
        written[:] = 0
        for k in range(images.shape[1]):
            row = images[n, k]
            for p in range(written.size):
                written[p] += row[p].real * row[p].real + row[p].imag * row[p].imag
        for p in range(written.size):
            written[p] = np.sqrt(max(written[p], tiny))


@compiled
def root_sum_of_squares_backward(grad, images, out, tiny, grad_images):
    """Gradient of `root_sum_of_squares`, written; 0 where all coils are 0."""
    limit = np.sqrt(tiny)
    scale = np.empty(out.shape[1], out.dtype)
    for n in range(images.shape[0]):
        for p in range(scale.size):
            scale[p] = grad[n, p] / out[n, p] if out[n, p] > limit else 0
        for k in range(images.shape[1]):
            row, written = images[n, k], grad_images[n, k]
            for p in range(scale.size):
                written[p] = row[p] * scale[p]
