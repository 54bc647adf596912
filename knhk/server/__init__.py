"""The service: REST over `knhk.Engine`, for those who deploy it (``pip install 'knhk[server]'``).

The map, from below: `configuration` what the environment says; `identity` who calls; `rights` who may do what; `problems` what
is answered when it cannot be; `tenants` one store for several, each of whom sees only his own; `service` the operations, the
same for every protocol; `audit` the record of every call; `rest` the operations over HTTP; `serving` sockets and signals.
"""
