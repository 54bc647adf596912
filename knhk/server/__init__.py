"""The service: REST over `knhk.Engine`, for those who deploy it (``pip install 'knhk[server]'``).

The map, from below: `configuration` what the environment says; `identity` who calls; `rights` who may do what; `problems` what
is answered when it cannot be; `audit` the record of every call; `tenants` one store for several, each of whom sees only his own;
`service` and `working` the operations, the same for every protocol; `gate` what every call goes through and `reading` what it says; `background` what happens by itself; `operations` the table of
operations over HTTP, from which `rest` serves and `openapi` describes; `health`, `observing`, `rates` what their names say;
`framing`, `serving` and `secure` sockets and signals.
"""
