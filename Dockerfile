# One program of the workspace, static, in an image of its own: `docker build --build-arg PROGRAM=shop-order .`
# Any builder takes this file. `cargo xtask images` puts programs that were built on the host into the same images.
FROM rust:1-slim-trixie AS build
# For librdkafka.
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ make \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# All programs in one step, before it is known which one is wanted: it is done once for all images.
RUN target=$(rustc -vV | sed -n 's/^host: //p') \
 && export RUSTFLAGS="-C target-feature=+crt-static" \
 && cargo build --profile image --locked --target "$target" --features sagamill-cli/kafka \
    --package sagamill-cli --package shop-order --package shop-inventory --package shop-payment --package shop-shipping \
 && mkdir /programs \
 && for program in sagamill shop-order shop-inventory shop-payment shop-shipping; do \
      mv "target/$target/image/$program" /programs/; \
    done

FROM scratch
ARG PROGRAM
COPY --from=build /programs/${PROGRAM} /program
USER 65532:65532
ENTRYPOINT ["/program"]
