"""The operations over gRPC (``pip install 'knhk[grpc]'``): the second face of `knhk.server.service`, behind the same gate.

The map, from below: `messages` between messages and what operations take and give; `statuses` how a problem is told; `methods` which
method is which operation; `arriving` messages that do not come; `gate` what a call goes through; `watching` the stream of a case's
events; `probing` the standard health service; `mirroring` reflection; `listening` the port.
"""
