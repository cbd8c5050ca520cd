"""What the stories stand on: a server process, back ends on the official SDKs, devices, waiting."""
