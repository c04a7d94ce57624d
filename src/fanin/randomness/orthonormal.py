"""Orthonormal columns out of a matrix of independent normals: Haar-distributed orthogonal matrices.

The QR decomposition of a Gaussian matrix gives a Haar-distributed Q when the signs of R's
diagonal are made positive.  Its reflections act on ever shorter columns that are again Gaussian
and independent, so they can be drawn outright (Stewart, The Efficient Generation of Random
Orthogonal Matrices, SIAM J. Numer. Anal. 17, 1980): half of the work of a decomposition, and all
of it matrix products.  Reflections are applied in blocks as I − V T Vᵀ (Schreiber & Van Loan,
SIAM J. Sci. Stat. Comput. 10, 1989).
"""

import torch

DECOMPOSED_COLUMNS = 256
"""Up to here a QR decomposition by LAPACK is faster than blocks of reflections."""


def q_by_decomposition(x: torch.Tensor) -> torch.Tensor:
    """Q of the QR decomposition of ``x``, with the signs that make R's diagonal positive.

    Args:
        x: ``(count, rows, columns)`` with rows >= columns, float32 or float64.

    Returns:
        ``(count, rows, columns)`` with orthonormal columns.
    """
    q, signs = q_and_signs(x)
    return torch.mul(q, signs.unsqueeze(-2), out=q)


def q_and_signs(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Q of LAPACK's QR decomposition, and the signs of its columns that make it Haar: ±1.

    Args:
        x: ``(…, rows, columns)`` with rows >= columns, float32 or float64.
    """
    q, r = torch.linalg.qr(x)
    diagonal = r.diagonal(dim1=-2, dim2=-1)
    # copysign and not sign: an entry that is 0 must not make its column 0.
    return q, torch.copysign(diagonal.new_ones(()), diagonal)


def q_by_reflections(x: torch.Tensor, block: int) -> torch.Tensor:
    """The product of the reflections whose vectors are the columns of x's lower triangle.

    Haar-distributed for independent normals; the upper triangle is not used.

    Args:
        x: ``(count, rows, columns)`` with rows >= columns, float32 or float64; overwritten.
        block: reflections to apply at once.

    Returns:
        ``(count, rows, columns)`` with orthonormal columns.
    """
    count, _, columns = x.shape
    v = x.tril_()
    diagonal = v.diagonal(dim1=1, dim2=2)
    # A copy in any case: the diagonal is overwritten below.
    head = diagonal.to(torch.float64, copy=True)
    norm = torch.linalg.vector_norm(v, dim=1, dtype=torch.float64)
    sign = torch.where(head < 0, -1.0, 1.0).to(torch.float64)
    # Reflection k sends column k to −sign·norm along axis k.  Its vector is scaled to |v|² = 2, so
    # that it reads I − v vᵀ.
    scale = (norm * (norm + head.abs())).rsqrt()
    v.mul_(scale.unsqueeze(1).to(v.dtype))
    diagonal.copy_((head + sign * norm) * scale)

    q = torch.zeros_like(v)
    # The signs that make the diagonal of R positive.
    q.diagonal(dim1=1, dim2=2).copy_(-sign)
    for start in reversed(range(0, columns, block)):
        end = min(start + block, columns)
        size = end - start
        v_block = v[:, start:, start:end]
        # H₁…H_b = I − V T Vᵀ with T⁻¹ = the strict upper triangle of VᵀV plus half its diagonal.
        gram = (v_block.transpose(1, 2) @ v_block).double()
        inverse = gram.triu(1)
        inverse.diagonal(dim1=1, dim2=2).copy_(gram.diagonal(dim1=1, dim2=2) / 2)
        unit = torch.eye(size, dtype=torch.float64, device=v.device).expand(count, size, size)
        t = torch.linalg.solve_triangular(inverse, unit, upper=True).to(v.dtype)
        # Below and right of the block q holds the later reflections' product; beside it, zeros.
        product = v.new_empty(count, size, columns - start)
        top = v_block[:, :size].transpose(1, 2)
        torch.mul(
            top,
            q[:, start:end, start:end].diagonal(dim1=1, dim2=2).unsqueeze(1),
            out=product[:, :, :size],
        )
        product[:, :, size:] = v_block[:, size:].transpose(1, 2) @ q[:, end:, end:]
        _subtract_product(q[:, start:, start:], v_block @ t, product)
    return q


def _subtract_product(target: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """``target -= left @ right``, without a temporary for a single matrix."""
    for one, a, b in zip(target, left, right, strict=True):
        one.addmm_(a, b, alpha=-1)
