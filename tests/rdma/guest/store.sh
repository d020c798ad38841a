#!/bin/sh
# The store's machine: gRPC on the plain network, data on the one of RoCE, until it is switched off.
exec reprise store --listen "$STORE_PLAIN:7070" --data "$STORE_DATA:0" --metrics off --memory 640MiB
