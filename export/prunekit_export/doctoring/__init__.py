"""What is installed here, whether it works when it is tried, and which commands want what is missing."""

from prunekit_export.doctoring.examining import Examination as Examination
from prunekit_export.doctoring.examining import examine as examine
