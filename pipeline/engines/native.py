"""Train a model with the C++ kernel in kernel/: the fastest way on a CPU, one thread an engine.

The kernel is compiled once with the system's C++ compiler for the processor at hand and kept in a cache folder. It
allocates nothing in a step and is deterministic to the bit on one machine.

Precision: a run of float32 is computed in float32. In a run of bfloat16 the operands of matrix products have 16 bits,
and all else (weights, gradients, residual stream, norms, losses) has 32. Their format is the one that the
processor multiplies fastest: float16 where it has float16 arithmetic (AVX512-FP16; finer rounding than bfloat16), else
bfloat16 (AVX512-BF16), else float32.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import math
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from pipeline.engines import StepResult, check_tokens
from pipeline.errors import UserError
from pipeline.files import atomic_path, writing
from pipeline.models import family
from pipeline.models import parameters as layout
from pipeline.models.initial import initial, split
from pipeline.plan.run import Run

KERNEL = Path(__file__).with_name("kernel")
SOURCE = KERNEL / "native.cpp"  # the C interface, which includes the rest of the folder
# No -ffast-math: it would let the compiler assume that a loss is never NaN.
_FLAGS = ("-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-shared", "-fPIC")

_STATE = ("parameters", "first_moment", "second_moment")  # in the order in which the kernel numbers them


class _Shape(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in ("n_layer", "d_model", "n_head", "d_ff", "n_ctx", "n_vocab", "n_reuse", "lstm")
    )


class _Settings(ctypes.Structure):
    _fields_ = (
        *(
            (name, ctypes.c_double)
            for name in ("beta1", "beta2", "eps", "weight_decay", "clip", "dropout", "embedding_std", "lr_hidden")
        ),
        ("seed", ctypes.c_uint64),  # wraps around: any integer is a seed
    )


def compiler() -> str | None:
    """Return the path of the C++ compiler: $CXX, g++, clang++ or c++, the first that exists."""
    for name in (os.environ.get("CXX"), "g++", "clang++", "c++"):
        if name and (path := shutil.which(name)):
            return path
    return None


def cache_folder() -> Path:
    """Return the folder of compiled kernels, made if need be: scaling-laws in $XDG_CACHE_HOME or ~/.cache.

    Where the user has no home, or none that can be written, it is a folder in that of temporary files. What lies in it
    is run: it must be the user's own and closed to others.

    Raises
    ------
    UserError
        When it is not.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))  # "~" stays where there is no home
    folder = home / "scaling-laws"
    if home.is_absolute() and _can_be_written(folder):
        return folder
    folder = Path(tempfile.gettempdir()) / f"scaling-laws-{os.getuid()}"
    if not os.path.lexists(folder):
        print(f"no home folder that can be written: compiled code is kept in {folder}", file=sys.stderr)
    with writing(folder):
        folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise UserError(
            f"native engine: {folder}: not a folder of this user alone, to keep compiled code in; remove it"
        )
    return folder


def _can_be_written(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _processor() -> str:
    """Return what -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    kept = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(kept)}))


def build(operands: str = "float32", march: str = "native", source: Path = SOURCE) -> Path:
    """Compile the kernel unless it is in the cache; return the shared library's path.

    Several processes may build at the same time: each writes a file of its own and renames it.

    Parameters
    ----------
    operands : str
        Format of the operands of matrix products: float32, bfloat16 or float16.
    march : str
        An instruction set, as the compiler's -march names it. One older than this processor's computes what an older
        machine would.
    source : Path
        What to compile: a file that may include the kernel's headers by name.

    Raises
    ------
    UserError
        When there is no C++ compiler, or it fails; the message has its first error.
    """
    path = compiler()
    if path is None:
        raise UserError("native engine: no C++ compiler (g++ or clang++; $CXX names another)")
    version = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
    flags = [*_FLAGS, f"-DOPERANDS={operands.upper()}"]
    files = [source, *sorted(KERNEL.glob("*.[ch]pp"))]
    texts = [part for file in files for part in (file.name, file.read_text(encoding="utf-8"))]
    key = "\n".join([*texts, version, _processor(), march, *flags])
    library = cache_folder() / f"{source.stem}-{operands}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    if library.exists():
        return library
    tunings = [[f"-march={march}"]]
    if march == "native":
        tunings.append([])  # some compilers don't know the processor
    for tuning in tunings:
        with atomic_path(library) as temporary:
            command = [path, *flags, *tuning, f"-I{KERNEL}", str(source), "-o", str(temporary)]
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode == 0:
                return library
            temporary.touch()
        library.unlink()
    errors = [line for line in result.stderr.splitlines() if "error" in line] or result.stderr.splitlines()
    raise UserError(f"native engine: {Path(path).name} failed: {(errors or ['no message'])[0]}")


@functools.cache
def _library(operands: str = "float32", march: str = "native") -> ctypes.CDLL:
    library = ctypes.CDLL(str(build(operands, march)))
    pointer, integer, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
    for name, result, arguments in (
        ("create", pointer, (ctypes.POINTER(_Shape), ctypes.POINTER(_Settings))),
        ("destroy", None, (pointer,)),
        ("copy", None, (pointer, ctypes.c_int, pointer, ctypes.c_int)),
        ("gradient", number, (pointer, pointer, integer, integer)),
        ("step", None, (pointer, pointer, integer, integer, number, ctypes.c_int, pointer)),
        ("evaluate", None, (pointer, pointer, integer, pointer)),
    ):
        function = getattr(library, f"native_{name}")
        function.restype, function.argtypes = result, arguments
    return library


@functools.cache
def missing() -> str | None:
    """Return None when the kernel can be built and loaded here, else one line that says why not."""
    try:
        _library()
    except (UserError, OSError) as error:
        return str(error)
    return None


def available() -> bool:
    """Return whether the kernel can be built and loaded here."""
    return missing() is None


def supports(run: Run) -> bool:
    """Return whether the kernel computes what the run says."""
    return "native" in family(run.family).engines(run) and run.optimizer == "adamw" and run.n_ctx < 1 << 16


@functools.cache
def short_operands() -> str:
    """Return the format of operands for runs of bfloat16: see the module's text."""
    words = _processor().split()
    for flag, operands in (("avx512_fp16", "float16"), ("avx512_bf16", "bfloat16")):
        if flag in words:
            try:
                _library(operands)
            except (UserError, OSError):  # the compiler is older than the processor: the next format serves
                continue
            return operands
    return "float32"


class NativeEngine:
    """One model, its optimizer and their state, trained in one thread: see `pipeline.engines.Engine`.

    Weight decay is applied to matrices (embeddings included), not to norms. Dropout masks are a function of the seed,
    the step and the place, so that a resumed run is the same bit for bit.

    Parameters
    ----------
    run : Run
        What to train; `supports` must hold.
    threads : int
        There for the protocol: the kernel has one thread, since two processes of one thread beat one of two.
    parameters : ndarray of shape (n_parameters,), optional
        The first parameters in the order of `pipeline.models.parameters`; those of `pipeline.models.initial` when None.
    operands : str, optional
        Format of the operands of matrix products, when it is not to follow from the run's precision.
    march : str
        Instruction set of the kernel: see `build`.

    Raises
    ------
    UserError
        When the kernel can't train the run, or there is no compiler.

    Examples
    --------
    >>> from pipeline.plan.run import Run
    >>> run = Run(tokens="t", n_layer=1, d_model=16, n_ctx=8, n_vocab=32, n_steps=50, lr=0.01)
    >>> engine = NativeEngine(run)
    >>> tokens = np.tile(np.arange(9, dtype=np.uint16), (4, 1))
    >>> losses = [engine.step(tokens, lr=0.01).loss for _ in range(50)]
    >>> losses[0] > 3 and losses[-1] < 0.5
    True
    """

    name = "native"

    def __init__(
        self,
        run: Run,
        threads: int = 1,
        parameters: np.ndarray | None = None,
        operands: str | None = None,
        march: str = "native",
    ) -> None:
        if not supports(run):
            raise UserError(
                "engine: native trains with optimizer adamw, and family lstm without dropout, "
                f"not {run.family} with {run.optimizer} and dropout {run.dropout}"
            )
        self.run, self._steps = run, 0
        self.n_parameters = sum(math.prod(size) for _, size in layout(run))
        if operands is None:
            operands = "float32" if run.precision == "float32" else short_operands()
        self.operands, self._library = operands, _library(operands, march)
        self._engine = self._library.native_create(
            ctypes.byref(_Shape(*(getattr(run, name) for name, _ in _Shape._fields_[:-1]), family(run.family).KERNEL)),
            ctypes.byref(_Settings(*(getattr(run, name) for name, _ in _Settings._fields_))),
        )
        if not self._engine:
            raise UserError("native engine: not enough memory")
        if parameters is None:
            parameters = initial(run)
        self._write(0, parameters)

    def __del__(self) -> None:
        if getattr(self, "_engine", None):
            self._library.native_destroy(self._engine)

    def step(self, tokens: np.ndarray, lr: float, noise: bool = False) -> StepResult:
        """Take one optimizer step.

        Parameters
        ----------
        tokens : ndarray of shape (batch_sequences, n_ctx + 1), uint16
            Sequences, each with the token that follows it.
        lr : float
            Learning rate of this step; hidden matrices have `lr_hidden` times that.
        noise : bool
            Also measure the squared gradient norms of `pipeline.noise`; a batch of one sequence has none.

        Returns
        -------
        StepResult
            A loss that is NaN or infinite is returned as it is.
        """
        tokens = self._windows(tokens)
        noise = noise and len(tokens) > 1
        measured = np.empty(4)
        self._steps += 1
        self._library.native_step(
            self._engine, tokens.ctypes.data, len(tokens), self._steps, lr, noise, measured.ctypes.data
        )
        loss, norm, first, second = measured.tolist()
        return StepResult(loss, norm, ((first + second) / 2, norm**2) if noise else None)

    def gradient(self, tokens: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the mean loss and its flat gradient, unclipped, as the next step sees them; change nothing."""
        tokens = self._windows(tokens)
        loss = self._library.native_gradient(self._engine, tokens.ctypes.data, len(tokens), self._steps + 1)
        return loss, self._read(3)

    def evaluate(self, tokens: np.ndarray) -> np.ndarray:
        """Return the loss, without dropout, summed over windows, by position.

        Parameters
        ----------
        tokens : ndarray of shape (M, n_ctx + 1), uint16
            Windows of text.

        Returns
        -------
        ndarray of shape (n_ctx,), float64
            In nats; its sum divided by M n_ctx is the mean loss per token.
        """
        tokens = self._windows(tokens)
        sums = np.zeros(self.run.n_ctx)
        self._library.native_evaluate(self._engine, tokens.ctypes.data, len(tokens), sums.ctypes.data)
        return sums

    def weights(self) -> dict[str, np.ndarray]:
        """Return a copy of the weights by name."""
        return split(self._read(0), self.run)

    def set_weights(self, weights: dict[str, np.ndarray]) -> None:
        """Replace the weights and leave the optimizer alone."""
        self._write(0, np.concatenate([weights[name].ravel() for name, _ in layout(self.run)]))

    def state(self) -> dict[str, np.ndarray]:
        """Return a copy of all that a later step depends on: flat parameters and moments, and the steps taken."""
        return {name: self._read(which) for which, name in enumerate(_STATE)} | {"step": np.array(self._steps)}

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Continue from a `state`."""
        for which, name in enumerate(_STATE):
            self._write(which, state[name])
        self._steps = int(state["step"])

    def _windows(self, tokens: np.ndarray) -> np.ndarray:
        wanted = self.run.n_ctx + 1
        if tokens.ndim != 2 or tokens.shape[1] != wanted or tokens.dtype != np.uint16 or not len(tokens):
            raise UserError(
                f"tokens: {tokens.dtype} of shape {tokens.shape}, not uint16 of shape (1 or more, {wanted})"
            )
        check_tokens(tokens, self.run)
        return np.ascontiguousarray(tokens)

    def _read(self, which: int) -> np.ndarray:
        flat = np.empty(self.n_parameters, dtype=np.float32)
        self._library.native_copy(self._engine, which, flat.ctypes.data, 0)
        return flat

    def _write(self, which: int, flat: np.ndarray) -> None:
        flat = np.ascontiguousarray(flat, dtype=np.float32)
        if flat.shape != (self.n_parameters,):
            raise UserError(f"parameters: shape {flat.shape} is not ({self.n_parameters},)")
        self._library.native_copy(self._engine, which, flat.ctypes.data, 1)
