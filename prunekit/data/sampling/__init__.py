"""What is known of random views before they are drawn: an endless row of them, and the classes that each shows."""

from prunekit.data.sampling.masks import ViewClasses as ViewClasses
from prunekit.data.sampling.stream import views_of_epoch as views_of_epoch
from prunekit.data.sampling.stream import views_of_steps as views_of_steps
