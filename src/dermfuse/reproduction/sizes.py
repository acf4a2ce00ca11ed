"""Parameters and file sizes, counted from the networks themselves."""

from dataclasses import dataclass

from dermfuse.config import ModelConfig
from dermfuse.models import count_parameters
from dermfuse.models.build import build_network
from dermfuse.models.discriminant import DiscriminantNetwork

_MIB = 2**20
_FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True)
class Size:
    """How large a network is.

    Attributes:
        parameters: As the paper counts them: those that are trained of a pair network, all
            (BatchNorm statistics included) of any other.
        file_mb: Of what is deployed, as float32, in MiB: without the discriminant branch.
    """

    parameters: int
    file_mb: float


def measure_size(model: ModelConfig) -> Size:
    """Returns the size of the network that a configuration names.

    Example:
        >>> measure_size(ModelConfig()).parameters
        3230914
    """
    network = build_network(model)
    paired = isinstance(network, DiscriminantNetwork)
    parameters = count_parameters(network, trainable=paired)
    deployed = network.deploy("a") if isinstance(network, DiscriminantNetwork) else network
    numbers = count_parameters(deployed, trainable=False)
    return Size(parameters, numbers * _FLOAT32_BYTES / _MIB)
