"""The signal types under the name of the folder that measures them; see ``fanin.signals``."""

from fanin.signals import AttentionSignal as AttentionSignal
from fanin.signals import Histogram as Histogram
from fanin.signals import LayerSignal as LayerSignal
from fanin.signals import ParameterSignal as ParameterSignal
from fanin.signals import Signals as Signals
from fanin.signals import TensorSignal as TensorSignal
