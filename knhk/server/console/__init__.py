"""The console: the operations of the service as pages for people, under ``/console``.

Every page and every button is an operation of `knhk.server.operations`, and goes through what stands before the API: who asks,
how often, with which roles, and the record.
No workflow logic is here.
"""
