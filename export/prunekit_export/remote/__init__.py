"""Devices over the system's OpenSSH: commands that end with the connection, folders that are whole or not there."""

from prunekit_export.remote.copying import Target as Target
from prunekit_export.remote.copying import checked as checked
from prunekit_export.remote.copying import copy_folder as copy_folder
from prunekit_export.remote.host import Host as Host
from prunekit_export.remote.session import Channel as Channel
from prunekit_export.remote.session import Completed as Completed
from prunekit_export.remote.session import Session as Session
