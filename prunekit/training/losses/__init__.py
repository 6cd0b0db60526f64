"""What training minimises: losses by pixel and by overlap, the CCS head's losses, a teacher's, sparsity.

Each returns a scalar; the loop adds them.
"""

from prunekit.training.losses.class_weights import make_class_weights as make_class_weights
from prunekit.training.losses.distillation import Teacher as Teacher
from prunekit.training.losses.distillation import distillation_loss as distillation_loss
from prunekit.training.losses.losses import training_loss as training_loss
from prunekit.training.losses.sparsity import Regulariser as Regulariser
from prunekit.training.losses.sparsity import make_regulariser as make_regulariser
