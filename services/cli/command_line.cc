#include "services/cli/command_line.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include <CLI/CLI.hpp>
#include <stdio.h>

#include "client/view.h"
#include "common/limits.h"
#include "common/sha256.h"
#include "services/cli/commands.h"
#include "services/cli/disk_command_line.h"
#include "services/store/store_config.h"
#include "services/store/store_flags.h"
#include "services/store/store_process.h"

namespace reprise::cli {
namespace {

// For CLI11, which takes an empty text for "it is right".
std::string Complaint(const absl::Status& status) { return std::string(status.message()); }

std::string CheckAddress(const std::string& text) {
  return Complaint(client::ParseView(text).status());
}

std::string CheckHex(const std::string& text) {
  return Digest::FromHex(text).has_value() ? "" : "\"" + text + "\" is not 64 hexadecimal digits";
}

// Where every command's flags land, for as long as it runs.
struct AllFlags {
  store::StoreFlags store;
  PutFlags put;
  GetFlags get;
  CalibrateFlags calibrate;
  KeepFlags keep;  // of whichever of pin, unpin and warm it is
  StatFlags stat;
  ListFlags list;
  RemoveFlags remove;
  FsckFlags fsck;
  DuFlags du;
  DoctorFlags doctor;
  bool version_json = false;
};

void AddStoreFlags(CLI::App& command, StoreFlags& flags, bool json) {
  command
      .add_option("--store", flags.address,
                  "The store's gRPC address, or those of several with commas between")
      ->envname("REPRISE_STORE")
      ->check(CheckAddress)
      ->type_name("HOST:PORT")
      ->capture_default_str();
  command
      .add_option("--replicas", flags.replicas,
                  "How many of the stores hold each piece; the same for all who share them")
      ->check(CLI::Range(uint32_t{1}, static_cast<uint32_t>(client::kMaxNodes)))
      ->type_name("N")
      ->capture_default_str();
  command.add_option("--tenant", flags.tenant, "Whose objects")
      ->type_name("NAME")
      ->capture_default_str();
  command
      .add_option("--credential-file", flags.credential_file, "File with the tenant's credential")
      ->type_name("FILE");
  command.add_option("--carrier", flags.carrier, "How bytes travel: auto, ucx or grpc")
      ->check(CLI::IsMember({"auto", "ucx", "grpc"}))
      ->type_name("NAME")
      ->capture_default_str();
  command.add_option("--timeout", flags.timeout_s, "The whole command ends by then")
      ->check(CLI::Range(0.001, 3600.0))
      ->type_name("SECONDS")
      ->capture_default_str();
  if (json) command.add_flag("--json", flags.json, "Print JSON lines");
}

CLI::Option* AddObject(CLI::App& command, ObjectFlags& object) {
  CLI::Option* name = command.add_option("NAME", object.name, "A file that `put` stored");
  CLI::Option* key = command.add_option("--key", object.key_hex, "A piece's key instead of a name")
                         ->type_name("HEX")
                         ->check(CheckHex)
                         ->excludes(name);
  return key;
}

void RequireOne(const std::string& name, const std::string& key) {
  if (name.empty() && key.empty()) throw CLI::RequiredError("NAME or --key");
}

void AddStore(CLI::App& app, AllFlags& flags) {
  CLI::App& command = *app.add_subcommand("store", "Run a store until SIGTERM");
  store::StoreFlags& to = flags.store;
  command.add_option("--listen", to.listen, "gRPC address [127.0.0.1:7070]")
      ->type_name("HOST:PORT");
  command.add_option("--data", to.data, "UCX address, or \"off\" [host of --listen, any port]")
      ->type_name("HOST:PORT");
  command.add_flag("--same-host", to.same_host,
                   "Clients on this host copy large bulk out of the store's memory: faster than "
                   "TCP. Grants every process of the store's user id here to read all of that "
                   "memory, every tenant's data included, and to debug the store");
  command.add_option("--memory", to.memory, "What the whole process may use [a quarter of RAM]")
      ->type_name("SIZE");
  command.add_option("--disk", to.disk, "Keep pieces in this directory too, across restarts")
      ->type_name("DIR");
  command.add_option("--disk-size", to.disk_size, "What everything in --disk may take")
      ->type_name("SIZE");
  command
      .add_option("--floor", to.floor,
                  "Give up precision before pieces, down to these errors [0: never]; 0.08,0.15 is "
                  "near-lossless (docs/codec.md)")
      ->type_name("K[,V]");
  command.add_option("--metrics", to.metrics, "Metrics and health, or \"off\" [127.0.0.1:9470]")
      ->type_name("HOST:PORT");
  command.add_option("--config", to.config, "YAML file with the same names; flags win")
      ->type_name("FILE");
  command.add_option("--log-level", to.log_level, "debug, info, warning, error or off [info]")
      ->type_name("LEVEL");
  command.footer(
      "Examples:\n  reprise store --listen 127.0.0.1:7070 --memory 4GiB\n"
      "  reprise store --memory 4GiB --disk /var/lib/reprise --disk-size 200GiB\n"
      "Once it takes requests it prints \"ready grpc=... data=... metrics=...\", which also\n"
      "says what port 0 became. Ctrl-C or SIGTERM ends it; with --disk it first saves there what\n"
      "only memory holds, for 20 seconds at most, or until a second signal.");
  command.final_callback([&to] {
    if (const absl::Status status = store::CheckFlags(to); !status.ok()) {
      throw CLI::ValidationError(Complaint(status));
    }
  });
}

CLI::Option* AddDtype(CLI::App& command, std::string& dtype) {
  return command.add_option("--dtype", dtype, "Which of the dump's dtypes: bf16 or fp16")
      ->check(CLI::IsMember({"bf16", "fp16"}))
      ->type_name("NAME")
      ->capture_default_str();
}

// `purpose` says what the command does with the dump.
CLI::Option* AddKv(CLI::App& command, KvFlags& flags, const std::string& purpose) {
  CLI::Option* kv = command.add_option("--kv", flags.directory, purpose)
                        ->type_name("DIR")
                        ->check([](const std::string& directory) {
                          return directory.empty() ? std::string("it is empty") : std::string();
                        });
  command.add_option("--text", flags.text, "Only this text of the dump")
      ->type_name("NAME")
      ->needs(kv);
  AddDtype(command, flags.dtype)->needs(kv);
  command.add_option("--profile", flags.profile, "The profile that the KV is coded with [none]")
      ->type_name("FILE")
      ->needs(kv);
  return kv;
}

void AddPut(CLI::App& app, PutFlags& flags) {
  CLI::App& command =
      *app.add_subcommand("put", "Store a file under a name, an encoded piece, or KV");
  CLI::Option* kv =
      AddKv(command, flags.kv, "Store the KV of this dump (docs/kv-dump.md) chunk by chunk");
  command.add_option("--codec", flags.codec, "How KV is coded: progressive or raw")
      ->check(CLI::IsMember({"progressive", "raw"}))
      ->type_name("NAME")
      ->capture_default_str()
      ->needs(kv);
  CLI::Option* piece = command.add_flag("--piece", flags.piece,
                                        "FILE is an encoded piece; its key is in its header");
  command.add_flag("--replace", flags.replace, "Put it in the place of other content");
  command.add_flag("--durable", flags.durable,
                   "Return once it survives a crash of the store and power loss");
  command.add_option("--ttl", flags.ttl_s, "Absent again after so long [0: it stays]")
      ->type_name("SECONDS");
  CLI::Option* name =
      command.add_option("NAME", flags.name, "What to call it; with --piece, the FILE");
  CLI::Option* file = command.add_option("FILE", flags.file, "The file (- is standard input)");
  AddStoreFlags(command, flags.store, true);
  command.footer(
      "Examples:\n  reprise put weights.bin ./weights.bin\n  reprise put --piece ./chunk.rpc\n"
      "  reprise put --kv ./kv/smollm2 --codec progressive\n"
      "With --kv, a table says what loading at each level takes: its bytes, the bits of each "
      "value, "
      "how many times smaller than 16 bits that is, and the worst layer's relative error of K and "
      "V.");
  command.final_callback([&flags, kv, piece, name, file] {
    const bool is_piece = piece->count() > 0;
    if (kv->count() > 0) {
      if (name->count() > 0 || is_piece || flags.replace) {
        throw CLI::ValidationError("put --kv takes no NAME, FILE, --piece or --replace");
      }
      return;
    }
    if (name->count() == 0) throw CLI::RequiredError("NAME or --kv");
    if ((file->count() == 0) != is_piece) {
      throw CLI::ValidationError(is_piece ? "put --piece takes one FILE"
                                          : "put takes NAME and FILE");
    }
    if (flags.name.empty()) throw CLI::ValidationError("put needs a NAME that is not empty");
    if (is_piece) flags.file.swap(flags.name);
  });
}

void AddGet(CLI::App& app, GetFlags& flags) {
  CLI::App& command =
      *app.add_subcommand("get", "Fetch a file by name, a piece by key, or KV by its tokens");
  AddObject(command, flags.object);
  CLI::Option* kv = AddKv(command, flags.kv,
                          "Load the KV of this dump's tokens: its dump.json and TEXT/tokens.u32");
  command
      .add_option("--level", flags.level,
                  "How good the KV must be, 0 being the smallest [the highest: exact]")
      ->check(CLI::Range(0U, kMaxPlanes - 1))
      ->type_name("LEVEL")
      ->needs(kv);
  command
      .add_option("-o,--output", flags.output,
                  "Where to (- is standard output); with --kv, a directory to make")
      ->type_name("PATH")
      ->capture_default_str();
  command.add_flag("--piece", flags.piece, "The encoded piece as it is");
  AddStoreFlags(command, flags.store, true);
  command.footer(
      "Examples:\n  reprise get weights.bin -o ./weights.bin\n"
      "  reprise get --key 3f6c...e1 --piece -o ./chunk.rpc\n"
      "  reprise get --kv ./kv/smollm2 --level 2 -o ./kv/smollm2-level2\n"
      "Nothing is written unless everything arrived and was verified; exit code 3 is a miss.");
  command.final_callback([&flags, kv] {
    if (flags.output.empty()) {
      throw CLI::ValidationError("-o needs a FILE, or - for standard output");
    }
    if (kv->count() > 0) {
      if (!flags.object.name.empty() || !flags.object.key_hex.empty() || flags.piece) {
        throw CLI::ValidationError("get --kv takes no NAME, --key or --piece");
      }
      if (flags.output == "-") throw CLI::ValidationError("get --kv needs -o DIRECTORY");
      return;
    }
    RequireOne(flags.object.name, flags.object.key_hex);
    if (flags.store.json && flags.output == "-") throw CLI::ValidationError("--json needs -o FILE");
  });
}

void AddCalibrate(CLI::App& app, CalibrateFlags& flags) {
  CLI::App& command =
      *app.add_subcommand("calibrate", "Learn from a dump's Q how fine each channel of K must be");
  command.add_option("DIR", flags.directory, "A dump with Q (docs/kv-dump.md)")->required();
  command.add_option("-o,--output", flags.output, "The profile to write")
      ->required()
      ->type_name("FILE");
  command.add_option("--text", flags.texts, "Learn from this text of the dump alone; repeatable")
      ->type_name("NAME")
      ->allow_extra_args(false);
  AddDtype(command, flags.dtype);
  command.footer(
      "Examples:\n  reprise calibrate ./kv/smollm2 -o smollm2.profile\n"
      "  reprise put --kv ./kv/smollm2 --profile smollm2.profile\n"
      "  reprise get --kv ./kv/smollm2 --profile smollm2.profile --level 2 -o ./kv/level2\n"
      "The table has octaves: a channel at 1 has steps half as wide as one at 0, and takes about "
      "one bit more for each value. Keys differ with the profile: its name is in the namespace.");
  command.final_callback([&flags] {
    if (flags.output == "-") throw CLI::ValidationError("calibrate needs --output FILE");
  });
}

CLI::App& AddKeep(CLI::App& app, const std::string& name, const std::string& purpose,
                  KeepFlags& flags) {
  CLI::App& command = *app.add_subcommand(name, purpose);
  CLI::Option* kv = AddKv(command, flags.kv, "The KV of this dump's tokens instead of objects");
  command.add_option("NAME", flags.names, "Files that `put` stored");
  command.add_option("--key", flags.keys_hex, "Pieces by key")->type_name("HEX")->check(CheckHex);
  AddStoreFlags(command, flags.store, true);
  command.final_callback([&flags, kv] {
    const bool some = !flags.names.empty() || !flags.keys_hex.empty();
    if (some == (kv->count() > 0)) throw CLI::ValidationError("give NAMEs, --key or --kv");
  });
  return command;
}

void AddKeepCommands(CLI::App& app, KeepFlags& flags) {
  CLI::App& pin = AddKeep(app, "pin", "Keep objects from eviction for a while", flags);
  pin.add_option("--for", flags.seconds, "How long; pin again to prolong it")
      ->check(CLI::Range(uint32_t{1}, uint32_t{kMaxPin / std::chrono::seconds(1)}))
      ->type_name("SECONDS")
      ->capture_default_str();
  pin.footer(
      "Examples:\n  reprise pin weights.bin --for 600\n"
      "  reprise pin --kv ./kv/smollm2 --text system-prompt --for 86400\n"
      "A tenant may pin an eighth of the store's disk, or of its memory when it has no disk, and\n"
      "half of its quota. A restart of the store forgets pins. Exit code 3 when some are not "
      "held.");
  AddKeep(app, "unpin", "Let what was pinned be evicted again", flags)
      .footer("Example:\n  reprise unpin weights.bin\nExit code 3 when some were not pinned.");
  AddKeep(app, "warm", "Bring what only the store's disk has into its memory", flags)
      .footer(
          "Example:\n  reprise warm --kv ./kv/smollm2 --text system-prompt\n"
          "In order, until one is absent or would push out what was used last. Exit code 3 when\n"
          "not all is in memory then.");
}

void AddStat(CLI::App& app, StatFlags& flags) {
  CLI::App& command = *app.add_subcommand("stat", "Show what is held of an object");
  AddObject(command, flags.object);
  command.add_flag("--verify", flags.verify,
                   "Let the store read what a fetch gets, and check every byte");
  AddStoreFlags(command, flags.store, true);
  command.footer("Example:\n  reprise stat weights.bin --verify");
  command.final_callback([&flags] { RequireOne(flags.object.name, flags.object.key_hex); });
}

void AddList(CLI::App& app, ListFlags& flags) {
  CLI::App& command = *app.add_subcommand(
      "ls", "List objects: key, bytes held, namespace; the header goes to standard error");
  command.add_option("--namespace", flags.namespace_hex, "Only this namespace's")
      ->type_name("HEX")
      ->check(CheckHex);
  command.add_option("--limit", flags.limit, "At most this many; 0 for all")
      ->type_name("COUNT")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  AddStoreFlags(command, flags.store, true);
  command.footer("Example:\n  reprise ls --json | head");
}

void AddRemove(CLI::App& app, RemoveFlags& flags) {
  CLI::App& command = *app.add_subcommand("rm", "Remove objects, or a whole namespace");
  command.add_option("NAME", flags.names, "Files that `put` stored");
  command.add_option("--key", flags.keys_hex, "Pieces by key")->type_name("HEX")->check(CheckHex);
  CLI::Option* whole =
      command.add_option("--namespace", flags.namespace_hex, "Every piece of this namespace")
          ->type_name("HEX")
          ->check(CheckHex);
  command.add_flag("--yes", flags.yes, "Yes, the whole namespace");
  AddStoreFlags(command, flags.store, true);
  command.footer("Examples:\n  reprise rm weights.bin\n  reprise rm --namespace 9a0b...77 --yes");
  command.final_callback([&flags, whole] {
    const bool some = !flags.names.empty() || !flags.keys_hex.empty();
    if (whole->count() == 0 && !some) throw CLI::RequiredError("NAME, --key or --namespace");
    if (whole->count() > 0 && some) {
      throw CLI::ValidationError("rm removes either single objects or a namespace");
    }
    if (whole->count() > 0 && !flags.yes) {
      throw CLI::ValidationError("removing a whole namespace needs --yes");
    }
  });
}

void AddDoctor(CLI::App& app, DoctorFlags& flags) {
  CLI::App& command = *app.add_subcommand(
      "doctor", "Show what of this machine is missing, slow or wrong, and what mends it");
  command.add_option("--disk", flags.disk, "Also where a store would keep its disk tier")
      ->type_name("DIR");
  AddStoreFlags(command, flags.store, true);
  CLI::Option* address = command.get_option("--store");
  command.footer(
      "Examples:\n  reprise doctor\n"
      "  reprise doctor --disk /var/lib/reprise --store 10.0.0.7:7070\n"
      "Run it where the store or the engine runs: a container is shown less than its host. A\n"
      "store is tried only when --store names one. Each line says ok, none (not there, not\n"
      "needed), slow or FAIL. Exit code 1 when anything fails.");
  command.final_callback([&flags, address] { flags.try_store = address->count() > 0; });
}

absl::StatusOr<int> RunStoreCommand(const store::StoreFlags& flags) {
  REPRISE_ASSIGN_OR_RETURN(const store::StoreConfig config, store::MakeConfig(flags));
  REPRISE_RETURN_IF_ERROR(store::RunStore(config));
  return kExitOk;
}

std::function<absl::StatusOr<int>()> Runner(const std::string& name,
                                            const std::shared_ptr<AllFlags>& flags) {
  if (name == "store") return [flags] { return RunStoreCommand(flags->store); };
  if (name == "put") {
    return
        [flags] { return flags->put.kv.directory.empty() ? Put(flags->put) : PutKv(flags->put); };
  }
  if (name == "get") {
    return
        [flags] { return flags->get.kv.directory.empty() ? Get(flags->get) : GetKv(flags->get); };
  }
  if (name == "calibrate") return [flags] { return Calibrate(flags->calibrate); };
  if (name == "pin") return [flags] { return Pin(flags->keep); };
  if (name == "unpin") return [flags] { return Unpin(flags->keep); };
  if (name == "warm") return [flags] { return Warm(flags->keep); };
  if (name == "stat") return [flags] { return Stat(flags->stat); };
  if (name == "ls") return [flags] { return List(flags->list); };
  if (name == "rm") return [flags] { return Remove(flags->remove); };
  if (name == "fsck") return [flags] { return Fsck(flags->fsck); };
  if (name == "du") return [flags] { return DiskUse(flags->du); };
  if (name == "doctor") return [flags] { return Doctor(flags->doctor); };
  return [flags] { return Version(flags->version_json); };
}

std::string OneLine(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

}  // namespace

ParsedCommand ParseCommandLine(int argc, const char* const* argv) {
  const auto flags = std::make_shared<AllFlags>();
  CLI::App app("Reprise: a KV-cache store for LLM serving", "reprise");
  app.require_subcommand(1);
  app.footer(
      "Each command has its own help: reprise put --help\n"
      "Example, the store in a terminal of its own:\n  reprise store --memory 4GiB\n"
      "  reprise put notes ./notes.txt\n  reprise get notes -o ./copy.txt\n"
      "Exit codes: 0 ok, 1 error, 2 wrong usage, 3 not held.");
  AddStore(app, *flags);
  AddPut(app, flags->put);
  AddGet(app, flags->get);
  AddCalibrate(app, flags->calibrate);
  AddKeepCommands(app, flags->keep);
  AddStat(app, flags->stat);
  AddList(app, flags->list);
  AddRemove(app, flags->remove);
  AddFsck(app, flags->fsck);
  AddDu(app, flags->du);
  AddDoctor(app, flags->doctor);
  CLI::App& version = *app.add_subcommand("version", "Show versions");
  version.add_flag("--json", flags->version_json, "Print JSON");
  version.footer("Example:\n  reprise version");
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    printf("%s", app.help().c_str());
    return {{}, kExitOk};
  } catch (const CLI::ParseError& error) {
    const auto chosen = app.get_subcommands();
    if (chosen.empty() && argc > 1 && argv[1][0] != '-') {
      fprintf(stderr, "reprise: \"%s\" is no command (see reprise --help)\n", argv[1]);
      return {{}, kExitUsage};
    }
    fprintf(stderr, "reprise: %s (see reprise %s--help)\n", OneLine(error.what()).c_str(),
            chosen.empty() ? "" : (chosen[0]->get_name() + " ").c_str());
    return {{}, kExitUsage};
  }
  return {Runner(app.get_subcommands().at(0)->get_name(), flags), kExitOk};
}

}  // namespace reprise::cli
