"""Names of schemes, and what users may write instead of a scheme."""

import pytest
import torch
from scheme_cases import ramp

from fanin import schemes
from fanin.errors import SchemeError, UnknownNameError
from fanin.schemes import (
    SCHEME_CLASSES,
    SCHEMES,
    Constant,
    DeltaOrthogonal,
    Function,
    Kaiming,
    Mirrored,
    Normal,
    Orthogonal,
    Uniform,
    Xavier,
    Zeros,
    scheme,
    scheme_from_json,
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("zeros", Zeros()),
        ("normal_0.01", Normal(std=0.01)),
        ("normal_1e-3", Normal(std=1e-3)),
        ("uniform_0.1", Uniform(-0.1, 0.1)),
        ("constant_-0.5", Constant(-0.5)),
        ("orthogonal_1.414", Orthogonal(1.414)),
        ("orthogonal", Orthogonal()),
        ("delta_orthogonal", DeltaOrthogonal()),
        ("mirrored", Mirrored()),
        ("he_normal", Kaiming()),
        ("kaiming_uniform", Kaiming(distribution="uniform")),
        ("glorot_normal", Xavier()),
    ],
)
def test_names_and_numbers(name, value):
    assert SCHEMES[name] == value == scheme(name)
    assert name in SCHEMES


@pytest.mark.parametrize("name", ["he_norml", "normal_", "normal_x", "zeros_1", "", "kaiming"])
def test_unknown_names_list_the_nearest(name):
    assert name not in SCHEMES
    assert SCHEMES.get(name) is None
    with pytest.raises(UnknownNameError, match=r"Nearest: \w+.*fanin schemes"):
        scheme(name)


def test_every_name_is_listed_once_and_resolves():
    assert len(SCHEMES) == len(set(SCHEMES)) >= 30
    assert all(SCHEMES[name] == scheme(name) for name in SCHEMES)


def test_classes_are_found_and_exported():
    names = (
        "Zeros Ones Constant Uniform Normal TruncatedNormal InverseSqrt Xavier Kaiming LeCun SELU "
        "VarianceScaling PyTorchDefault Orthogonal DeltaOrthogonal Mirrored Identity Dirac Sparse "
        "Sinusoidal Function"
    )
    wanted = set(names.split())
    assert wanted <= set(SCHEME_CLASSES) <= set(schemes.__all__)
    assert all(getattr(schemes, name) is SCHEME_CLASSES[name] for name in wanted)
    with pytest.raises(AttributeError):
        schemes.Gaussian  # noqa: B018


def test_what_stands_for_a_scheme():
    assert scheme(Normal(std=0.02)) == Normal(std=0.02)
    assert scheme("Normal(std=0.02)") == Normal(std=0.02)
    assert scheme(" Normal( 0, 0.02 ) ") == Normal(std=0.02)
    assert scheme(Zeros) == Zeros()
    assert scheme(0.5) == Constant(0.5)
    assert scheme({"scheme": "Uniform", "low": -1, "high": 1}) == Uniform(-1, 1)
    assert scheme(torch.nn.init.ones_) == Function(torch.nn.init.ones_)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        [],
        {"std": 1},
        {"scheme": "Normal", "sd": 1},
        {"scheme": "Constant"},
        "Normal(std=",
        "Normal(1, 2, 3)",
        "Normal(std=x)",
        "Normal.build(1)",
        "Constant()",
        "Normal(std=-1)",
    ],
)
def test_what_does_not(value):
    with pytest.raises(SchemeError):
        scheme(value)


@pytest.mark.parametrize("text", ["print('x')", "Constant(print('x'))", "Constant(value=open(1))"])
def test_expressions_run_no_code(text, capsys):
    with pytest.raises(UnknownNameError):
        scheme(text)
    assert capsys.readouterr().out == ""


def test_unknown_class_in_json():
    with pytest.raises(UnknownNameError, match="Normal"):
        scheme_from_json({"scheme": "Norml"})


def test_a_function_is_saved_by_its_import_path():
    saved = Function(torch.nn.init.ones_).to_json()
    assert saved["function"] == "torch.nn.init:ones_"
    assert scheme_from_json(saved) == Function(torch.nn.init.ones_)
    assert Function("torch.nn.init:ones_") == Function(torch.nn.init.ones_)
    assert scheme(repr(Function(ramp))) == Function(ramp)


def test_a_function_that_cannot_be_imported_is_not_saved():
    with pytest.raises(SchemeError, match="top level"):
        Function(lambda t: t.zero_()).to_json()
    with pytest.raises(SchemeError, match="cannot be imported"):
        Function("torch.nn.init:no_such_function")
    with pytest.raises(SchemeError, match="callable"):
        Function(3)


def test_a_function_that_raises_leaves_tensor_and_generator_alone():
    from fanin.axes import Axes
    from fanin.randomness import Address

    def broken(tensor):
        tensor.normal_()
        raise RuntimeError("no")

    target, before = torch.full((3, 3), 5.0), torch.get_rng_state()
    with pytest.raises(RuntimeError, match="no"):
        Function(broken).fill(target, Axes(0, 1), Address(0, "w"))
    assert (target == 5.0).all()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_random_function_depends_on_the_address_alone():
    from fanin.axes import Axes
    from fanin.randomness import Address

    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(draws))
        target = torch.empty(4, 4)
        Function(torch.nn.init.xavier_normal_).fill(target, Axes(0, 1), Address(seed, "w"))
        draws.append(target)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
