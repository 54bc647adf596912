"""The service: REST and gRPC over `knhk.Engine`, for those who deploy it (``pip install 'knhk[server]'``).

The map, from below: `configuration` what the environment says; `identity` who calls; `rights` who may do what; `problems` what
is answered when it cannot be; `audit` the record of every call; `tenants` one store for several, each of whom sees only his own;
`service` and `working` the operations, the same for every protocol; `background` what happens by itself; `operations` the table of
operations over HTTP; `gate` what a call of any protocol goes through, `reading` what it says; `rest` and `rpc` the two protocols,
`openapi` the description of the first; `health`, `observing`, `rates` what their names say;
`framing`, `serving` and `secure` sockets and signals.
"""
